package origin

import (
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	errTooLarge = mapError("the value is larger than is allowed")
	errTooMuch  = mapError("the values that were asked for in one command are together larger than is allowed")
	errManyRows = mapError("the query returned more than one row: add conditions, or LIMIT 1, or use value: array")
)

// check looks at the columns of the query, before anything is wrapped round it.
func (m *Map) check(fields []pgconn.FieldDescription) error {
	if m.Value == Column {
		if len(fields) != 1 {
			return mapError(fmt.Sprintf("value: column needs a query with one column, this one has %d", len(fields)))
		}
		return nil
	}
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.Name] {
			return mapError(fmt.Sprintf("two columns are named %q: give each a name of its own with AS", f.Name))
		}
		seen[f.Name] = true
	}
	return nil
}

// room is how much may still be read for one call of loadAll, in bytes.
type room struct {
	value int // of one value
	left  int // of all
}

// take takes the place for a value of n bytes.
func (r *room) take(n int) error {
	switch {
	case n > r.value:
		return errTooLarge
	case n > r.left:
		return errTooMuch
	}
	r.left -= n
	return nil
}

// read returns the value that the rows make, nil for none. It is a copy, for which there must be room.
func (m *Map) read(rows *pgconn.ResultReader, room *room) ([]byte, error) {
	if !rows.NextRow() {
		return nil, nil
	}
	columns := rows.Values()
	if len(columns) != 1 {
		return nil, mapError(fmt.Sprintf("value: column needs a query with one column, this one has %d", len(columns)))
	}
	var value []byte
	if raw := columns[0]; raw != nil {
		if m.Value == Column && rows.FieldDescriptions()[0].DataTypeOID == pgtype.ByteaOID {
			var err error
			if value, err = decodeBytea(raw, room); err != nil {
				return nil, err
			}
		} else {
			if err := room.take(len(raw)); err != nil {
				return nil, err
			}
			value = append(make([]byte, 0, len(raw)), raw...)
		}
	}
	if rows.NextRow() {
		return nil, errManyRows
	}
	return value, nil
}

// decodeBytea reads PostgreSQL's hexadecimal form, which settingsQuery demands.
func decodeBytea(text []byte, room *room) ([]byte, error) {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' {
		return nil, mapError("the server sent bytea in another form than hex")
	}
	if err := room.take(hex.DecodedLen(len(text) - 2)); err != nil {
		return nil, err
	}
	value := make([]byte, hex.DecodedLen(len(text)-2))
	if _, err := hex.Decode(value, text[2:]); err != nil {
		return nil, mapError("the server sent bytea in another form than hex")
	}
	return value, nil
}
