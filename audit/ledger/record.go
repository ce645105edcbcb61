package ledger

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Record returns what is hashed of an entry: a JSON object with the log, the
// number of the leaf and every column of the entry that is not NULL, in the
// order of columns, without white space. So an entry cannot be moved to another
// log or another place in it, and columns that are added later, at the end,
// change nothing of the entries before.
func Record(origin string, leaf int64, columns []string, values []any) []byte {
	b := make([]byte, 0, 768)
	b = append(b, `{"log":`...)
	b = quote(b, origin)
	b = append(b, `,"leaf":`...)
	b = strconv.AppendInt(b, leaf, 10)
	for i, v := range values {
		if v == nil {
			continue
		}
		b = append(b, ',')
		b = quote(b, columns[i])
		b = append(b, ':')
		b = appendValue(b, v)
	}
	return append(b, '}')
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case int16:
		return strconv.AppendInt(b, int64(v), 10)
	case int32:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case time.Time:
		b = append(b, '"')
		b = v.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z") // all that PostgreSQL keeps
		return append(b, '"')
	case []byte:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v)
		return append(b, '"')
	case string:
		return quote(b, v)
	}
	// What the database can hold and no entry has, such as the date infinity.
	return quote(b, fmt.Sprintf("%T %v", v, v))
}

// quote appends s as JSON. Text in PostgreSQL is UTF-8, for which there is one
// way to write it; of anything else the replacement character is kept.
func quote(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}
