package origin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Report is what the databases say about a configuration.
type Report struct {
	Maps    []MapReport
	Origins []OriginReport
}

// MapReport is a map as its origin understands it.
type MapReport struct {
	Map     string
	Key     string
	Params  []TypedName // of the query, with the types that PostgreSQL gives them
	Columns []TypedName
}

// TypedName is a parameter or a column with its PostgreSQL type, such as "bigint".
type TypedName struct{ Name, Type string }

// OriginReport tells what is worth a warning about the role that an origin is reached with.
type OriginReport struct {
	Origin          string
	Role            string
	MayWrite        []string // what the role may do but read, such as "may write to the table public.users"
	ConnectionLimit int      // of the role; -1 where there is none
}

// Prepare connects to every origin, prepares the query of every map and plans it, which also tests the rights to its tables.
// Nothing is executed. The report holds what went well, the error joins all that did not: a *DefinitionError for a map.
func (r *Resolver) Prepare(ctx context.Context) (Report, error) {
	var report Report
	var errs []error
	reached := map[*database]bool{}
	for _, conf := range r.opts.Databases {
		db := r.databases[conf.Name]
		origin, err := db.inspect(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("origin %s: %s", conf.Name, inspectCause(err)))
			continue
		}
		reached[db] = true
		report.Origins = append(report.Origins, origin)
	}
	for _, m := range r.maps.Load().maps {
		db := r.database(m)
		if !reached[db] {
			continue
		}
		described, err := db.describe(ctx, m)
		if err != nil {
			errs = append(errs, &DefinitionError{Index: m.index, Map: m.Name, Field: "query", Problem: inspectCause(err)})
			continue
		}
		report.Maps = append(report.Maps, described)
	}
	return report, errors.Join(errs...)
}

// inspectCause tells more than a client may read: no parameter has a value here.
func inspectCause(err error) string {
	var pgErr *pgconn.PgError
	var misfit mapError
	switch {
	case errors.As(err, &misfit):
		return string(misfit)
	case errors.As(err, &pgErr) && pgErr.Hint != "":
		return oneLine(pgErr.Code + " " + pgErr.Message + " (" + pgErr.Hint + ")")
	case pgErr != nil:
		return oneLine(pgErr.Code + " " + pgErr.Message)
	default:
		return oneLine("cannot connect: " + connectCause(err))
	}
}

const roleQuery = `
select r.rolname, r.rolconnlimit, r.rolsuper, r.rolcreatedb, r.rolcreaterole,
  (select format('%I.%I', n.nspname, c.relname)
   from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'v', 'f') and n.nspname !~ '^(pg_|information_schema$)'
     and has_schema_privilege(n.oid, 'USAGE')
     and (has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') or has_any_column_privilege(c.oid, 'INSERT, UPDATE'))
   order by 1 limit 1),
  (select quote_ident(n.nspname)
   from pg_catalog.pg_namespace n
   where n.nspname !~ '^(pg_|information_schema$)' and has_schema_privilege(n.oid, 'CREATE')
   order by 1 limit 1)
from pg_catalog.pg_roles r where r.rolname = current_user`

// inspect looks at the role that the database is reached with.
func (d *database) inspect(ctx context.Context) (OriginReport, error) {
	report := OriginReport{Origin: d.conf.Name}
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return report, err
	}
	defer conn.Release()
	result := conn.Conn().PgConn().ExecParams(ctx, roleQuery, nil, nil, nil, nil).Read()
	if result.Err != nil {
		return report, result.Err
	}
	row := result.Rows[0]
	report.Role = string(row[0])
	if report.ConnectionLimit, err = strconv.Atoi(string(row[1])); err != nil {
		return report, err
	}
	const isTrue = "t"
	if string(row[2]) == isTrue {
		report.MayWrite = append(report.MayWrite, "is a superuser")
		return report, nil // which may do all that follows
	}
	if string(row[3]) == isTrue {
		report.MayWrite = append(report.MayWrite, "may create databases")
	}
	if string(row[4]) == isTrue {
		report.MayWrite = append(report.MayWrite, "may create roles")
	}
	if row[5] != nil {
		report.MayWrite = append(report.MayWrite, "may write to the table "+string(row[5]))
	}
	if row[6] != nil {
		report.MayWrite = append(report.MayWrite, "may create tables in the schema "+string(row[6]))
	}
	return report, nil
}

// describe prepares a map's query and plans it.
func (d *database) describe(ctx context.Context, m *Map) (MapReport, error) {
	report := MapReport{Map: m.Name, Key: m.Key}
	pooled, err := d.pool.Acquire(ctx)
	if err != nil {
		return report, err
	}
	defer pooled.Release()
	conn := pooled.Conn().PgConn()
	description, err := conn.Prepare(ctx, "", m.query, nil)
	if err != nil {
		return report, err
	}
	if err := m.check(description.Fields); err != nil {
		return report, err
	}
	if err := explain(ctx, conn, m); err != nil {
		return report, err
	}
	names, err := typeNames(ctx, conn, description)
	if err != nil {
		return report, err
	}
	for i, name := range m.names {
		report.Params = append(report.Params, TypedName{name, names[i]})
	}
	for i, field := range description.Fields {
		report.Columns = append(report.Columns, TypedName{field.Name, names[len(m.names)+i]})
	}
	return report, nil
}

// explain plans the query as it will be sent, with NULL for every parameter. Unlike preparing it, that tests the rights.
func explain(ctx context.Context, conn *pgconn.PgConn, m *Map) error {
	pipeline := conn.StartPipeline(ctx)
	pipeline.SendQueryParams("begin read only", nil, nil, nil, nil)
	pipeline.SendQueryParams("explain "+m.load, make([][]byte, len(m.args)), nil, nil, nil)
	pipeline.SendPipelineSync()
	pipeline.SendQueryParams("rollback", nil, nil, nil, nil)
	if err := pipeline.Sync(); err != nil {
		return err
	}
	return pipeline.Close() // the error of any of them
}

// typeNames returns the names of the types of the parameters and then of the columns.
func typeNames(ctx context.Context, conn *pgconn.PgConn, description *pgconn.StatementDescription) ([]string, error) {
	var oids, modifiers []string
	for _, oid := range description.ParamOIDs {
		oids = append(oids, strconv.FormatUint(uint64(oid), 10))
		modifiers = append(modifiers, "-1")
	}
	for _, f := range description.Fields {
		oids = append(oids, strconv.FormatUint(uint64(f.DataTypeOID), 10))
		modifiers = append(modifiers, strconv.Itoa(int(f.TypeModifier)))
	}
	array := func(elements []string) []byte { return []byte("{" + strings.Join(elements, ",") + "}") }
	result := conn.ExecParams(ctx,
		"select format_type(t.oid, t.modifier) from unnest($1::oid[], $2::int4[]) with ordinality as t(oid, modifier, n) order by n",
		[][]byte{array(oids), array(modifiers)}, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, result.Err
	}
	names := make([]string, len(result.Rows))
	for i, row := range result.Rows {
		names[i] = string(row[0])
	}
	return names, nil
}
