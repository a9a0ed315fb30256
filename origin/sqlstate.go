package origin

// The SQLSTATEs that loads react to (PostgreSQL manual, appendix A).
const (
	stateFeatureNotSupported  = "0A000" // also "cached plan must not change result type"
	stateNumericOutOfRange    = "22003"
	stateNoSuchStatement      = "26000" // named statements behind a pooler that hands out other connections
	stateDuplicateStatement   = "42P05" // the same
	stateSerializationFailure = "40001"
	stateDeadlock             = "40P01"
	stateAdminShutdown        = "57P01" // the connection is being terminated by order
	stateQueryCanceled        = "57014" // by statement_timeout or a cancel request
)

// serverClasses are the classes whose messages tell of the server and the connection, and never hold a parameter: connection
// exception, invalid authorization, invalid catalog name, transaction rollback, insufficient resources, operator intervention.
const serverClasses = "08 28 3D 40 53 57"

// conditionNames are the names of the conditions that a query can run into, by SQLSTATE, and of whole classes.
var conditionNames = map[string]string{
	"0A000": "feature_not_supported",
	"21000": "cardinality_violation",
	"22":    "data_exception",
	"22000": "data_exception",
	"22001": "string_data_right_truncation",
	"22003": "numeric_value_out_of_range",
	"22004": "null_value_not_allowed",
	"22007": "invalid_datetime_format",
	"22008": "datetime_field_overflow",
	"2200G": "most_specific_type_mismatch",
	"22011": "substring_error",
	"22012": "division_by_zero",
	"22021": "character_not_in_repertoire",
	"22023": "invalid_parameter_value",
	"22026": "string_data_length_mismatch",
	"2202E": "array_subscript_error",
	"22030": "duplicate_json_object_key_value",
	"22032": "invalid_json_text",
	"22P02": "invalid_text_representation",
	"22P03": "invalid_binary_representation",
	"22P05": "untranslatable_character",
	"23":    "integrity_constraint_violation",
	"25":    "invalid_transaction_state",
	"25006": "read_only_sql_transaction",
	"25P02": "in_failed_sql_transaction",
	"2F":    "sql_routine_exception",
	"34000": "invalid_cursor_name",
	"38":    "external_routine_exception",
	"39":    "external_routine_invocation_exception",
	"42":    "syntax_error_or_access_rule_violation",
	"42501": "insufficient_privilege",
	"42601": "syntax_error",
	"42703": "undefined_column",
	"42704": "undefined_object",
	"42725": "ambiguous_function",
	"42804": "datatype_mismatch",
	"42883": "undefined_function",
	"42P01": "undefined_table",
	"42P08": "ambiguous_parameter",
	"42P18": "indeterminate_datatype",
	"42P22": "indeterminate_collation",
	"54":    "program_limit_exceeded",
	"55":    "object_not_in_prerequisite_state",
	"55P03": "lock_not_available",
	"58":    "system_error",
	"HV":    "fdw_error",
	"P0":    "plpgsql_error",
	"P0001": "raise_exception",
	"P0002": "no_data_found",
	"P0003": "too_many_rows",
	"XX":    "internal_error",
	"XX001": "data_corrupted",
	"XX002": "index_corrupted",
}

// conditionName returns the name of an SQLSTATE, or of its class where it has none here.
func conditionName(state string) string {
	if name, ok := conditionNames[state]; ok {
		return name
	}
	if len(state) == 5 {
		if name, ok := conditionNames[state[:2]]; ok {
			return name
		}
	}
	return "query_failed"
}
