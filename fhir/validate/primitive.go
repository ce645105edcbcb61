package validate

import (
	"bytes"
	"strconv"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// maxString is how many bytes a string may have.
// https://hl7.org/fhir/R4/datatypes.html#string
const maxString = 1 << 20

// format returns the rule that v breaks as a value of the primitive type, ""
// if it breaks none.
// https://hl7.org/fhir/R4/datatypes.html#primitive
func format(p r4.Primitive, v *fastjson.Value) string {
	switch p {
	case r4.Boolean:
		if t := v.Type(); t != fastjson.TypeTrue && t != fastjson.TypeFalse {
			return "want true or false"
		}
		return ""
	case r4.Decimal, r4.Integer, r4.UnsignedInt, r4.PositiveInt:
		if v.Type() != fastjson.TypeNumber {
			return "want a JSON number"
		}
		var text [80]byte
		return number(p, v.MarshalTo(text[:0]))
	}
	if v.Type() != fastjson.TypeString {
		return "want a JSON string"
	}
	s := v.GetStringBytes()
	if len(s) == 0 {
		return "it must not be empty"
	}
	if rule := characters(s); rule != "" {
		return rule
	}
	return text(p, s)
}

// number checks the text of a JSON number.
func number(p r4.Primitive, s []byte) string {
	if p == r4.Decimal {
		mantissa, _, _ := bytes.Cut(bytes.ToLower(s), []byte("e"))
		f, err := strconv.ParseFloat(string(s), 64)
		if err != nil || f == 0 && bytes.ContainsAny(mantissa, "123456789") {
			return "it is too large or too small"
		}
		return ""
	}
	n, err := strconv.ParseInt(string(s), 10, 32)
	switch {
	case err != nil || s[0] == '-' && n == 0:
		return "want a whole number of 32 bits, without fraction or exponent"
	case p == r4.UnsignedInt && n < 0:
		return "it must not be negative"
	case p == r4.PositiveInt && n < 1:
		return "it must be at least 1"
	}
	return ""
}

// characters checks what holds for every type that is a string.
func characters(s []byte) string {
	for _, c := range s {
		if c < ' ' && c != '\t' && c != '\r' && c != '\n' {
			return "it has a control character"
		}
	}
	return ""
}

// text checks the text of the types that are strings.
func text(p r4.Primitive, s []byte) string {
	switch p {
	case r4.String, r4.Markdown:
		if len(s) > maxString {
			return "it is longer than 1 MiB"
		}
	case r4.Code:
		if !isCode(s) {
			return "want words with one space between them and none around"
		}
	case r4.ID:
		if !fhir.ValidID(string(s)) {
			return "want 1 to 64 of A-Z a-z 0-9 - and ."
		}
	case r4.URI, r4.URL, r4.Canonical:
		if hasSpace(s) {
			return "it has white space"
		}
	case r4.OID:
		if !isOID(s) {
			return "want urn:oid: and numbers with dots"
		}
	case r4.UUID:
		if !isUUID(s) {
			return "want urn:uuid: and a UUID in lower case"
		}
	case r4.Date:
		if rest, _, ok := date(s); !ok || len(rest) > 0 {
			return "want YYYY, YYYY-MM or YYYY-MM-DD, a day of the calendar"
		}
	case r4.DateTime:
		rest, full, ok := date(s)
		if !ok || len(rest) > 0 && (!full || !clock(rest, true)) {
			return "want YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a time zone"
		}
	case r4.Instant:
		rest, full, ok := date(s)
		if !ok || !full || !clock(rest, true) {
			return "want YYYY-MM-DDThh:mm:ss with a time zone"
		}
	case r4.Time:
		if s[0] == 'T' || !clock(append([]byte{'T'}, s...), false) {
			return "want hh:mm:ss"
		}
	case r4.Base64Binary:
		if !isBase64(s) {
			return "want base64 with its padding"
		}
	}
	return ""
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func hasSpace(s []byte) bool {
	for _, c := range s {
		if c <= ' ' || c >= 0x80 {
			return bytes.IndexFunc(s, isWhite) >= 0
		}
	}
	return false
}

// isWhite reports whether r is one of the \s of the regular expressions in the
// definitions, or a space that only looks different.
func isWhite(r rune) bool {
	switch {
	case r <= ' ', r == 0x85, r == 0xA0, r == 0x1680, r == 0x2028, r == 0x2029, r == 0x202F, r == 0x205F, r == 0x3000:
		return true
	}
	return r >= 0x2000 && r <= 0x200A
}

// isCode: [^\s]+(\s[^\s]+)*
// https://hl7.org/fhir/R4/datatypes.html#code
func isCode(s []byte) bool {
	space := true
	for _, c := range s {
		if isSpace(c) && space {
			return false
		}
		space = isSpace(c)
	}
	return !space
}

// isOID: urn:oid:[0-2](\.(0|[1-9][0-9]*))+
func isOID(s []byte) bool {
	s, ok := bytes.CutPrefix(s, []byte("urn:oid:"))
	if !ok || len(s) < 3 || s[0] > '2' || s[1] != '.' {
		return false
	}
	for _, arc := range bytes.Split(s, []byte(".")) {
		if len(arc) == 0 || arc[0] == '0' && len(arc) > 1 || digits(arc) != len(arc) {
			return false
		}
	}
	return true
}

// digits returns how many digits s begins with.
func digits(s []byte) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// isUUID: urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}
func isUUID(s []byte) bool {
	s, ok := bytes.CutPrefix(s, []byte("urn:uuid:"))
	if !ok || len(s) != 36 {
		return false
	}
	for i, c := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if dash != (c == '-') || !dash && !hex {
			return false
		}
	}
	return true
}

// date reads YYYY, YYYY-MM or YYYY-MM-DD at the start of s. full says that it
// was a whole date.
// https://hl7.org/fhir/R4/datatypes.html#date
func date(s []byte) (rest []byte, full, ok bool) {
	year, s, ok := four(s)
	if !ok || year == 0 {
		return nil, false, false
	}
	if len(s) == 0 || s[0] != '-' {
		return s, false, true
	}
	month, s, ok := two(s[1:])
	if !ok || month < 1 || month > 12 {
		return nil, false, false
	}
	if len(s) == 0 || s[0] != '-' {
		return s, false, true
	}
	day, s, ok := two(s[1:])
	return s, true, ok && day >= 1 && day <= daysIn(year, month)
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// two reads two digits.
func two(s []byte) (n int, rest []byte, ok bool) {
	if len(s) < 2 || digits(s[:2]) != 2 {
		return 0, nil, false
	}
	return int(s[0]-'0')*10 + int(s[1]-'0'), s[2:], true
}

// four reads four digits.
func four(s []byte) (n int, rest []byte, ok bool) {
	century, s, ok := two(s)
	if !ok {
		return 0, nil, false
	}
	year, s, ok := two(s)
	return century*100 + year, s, ok
}

// clock reads Thh:mm:ss(.s+)? and, if there must be one, a time zone. Second
// 60 is for leap seconds.
// https://hl7.org/fhir/R4/datatypes.html#time
func clock(s []byte, zone bool) bool {
	s, ok := bytes.CutPrefix(s, []byte("T"))
	for i, limit := range []int{23, 59, 60} {
		if !ok || i > 0 && (len(s) == 0 || s[0] != ':') {
			return false
		}
		if i > 0 {
			s = s[1:]
		}
		var n int
		if n, s, ok = two(s); n > limit {
			return false
		}
	}
	if !ok {
		return false
	}
	if len(s) > 0 && s[0] == '.' {
		n := digits(s[1:])
		if n == 0 {
			return false
		}
		s = s[1+n:]
	}
	if !zone {
		return len(s) == 0
	}
	if string(s) == "Z" {
		return true
	}
	if len(s) != 6 || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return false
	}
	hour, _, ok1 := two(s[1:])
	minute, _, ok2 := two(s[4:])
	return ok1 && ok2 && (hour < 14 && minute < 60 || hour == 14 && minute == 0)
}

// isBase64 checks the alphabet, the padding and the length; white space is
// skipped.
// https://hl7.org/fhir/R4/datatypes.html#base64Binary
func isBase64(s []byte) bool {
	n, pad := 0, 0
	for _, c := range s {
		switch {
		case isSpace(c):
			continue
		case c == '=':
			pad++
		case pad > 0:
			return false
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '+', c == '/':
		default:
			return false
		}
		n++
	}
	return n > 0 && n%4 == 0 && pad <= 2
}
