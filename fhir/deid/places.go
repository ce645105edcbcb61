package deid

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// Of an address in the United States the state is shown, and of the ZIP code the first
// three digits, if more than 20,000 people live where they are used. Of an address
// elsewhere the country is.

// sparse are the first digits where fewer live, by the census of 2000.
// https://www.hhs.gov/hipaa/for-professionals/special-topics/de-identification/index.html
var sparse = strings.Fields("036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893")

// states are the codes of states and territories.
var states = strings.Fields(`AL AK AZ AR CA CO CT DE DC FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR PA RI
	SC SD TN TX UT VT VA WA WV WI WY AS GU MP PR VI`)

var (
	zip     = regexp.MustCompile(`^[0-9]{5}(-?[0-9]{4})?$`)
	country = regexp.MustCompile(`^[A-Z]{2,3}$`)
)

// address returns what is shown of an Address.
// https://hl7.org/fhir/R4/datatypes.html#Address
func address(value []byte) []byte {
	has := map[string]string{}
	for name, value := range fhir.Members(value) {
		has[string(name)] = text(value)
	}
	var list [][]byte
	add := func(name, value string) { list = append(list, fmt.Appendf(nil, "%q:%q", name, value)) }
	if at := has["country"]; at != "" && at != "US" && at != "USA" {
		if !country.MatchString(at) {
			return nil
		}
		add("country", at)
		return join(list...)
	}
	if slices.Contains(states, has["state"]) {
		add("state", has["state"])
	}
	if code := has["postalCode"]; zip.MatchString(code) {
		if code = code[:3]; slices.Contains(sparse, code) {
			code = "000"
		}
		add("postalCode", code)
	}
	if has["country"] != "" {
		add("country", has["country"])
	}
	return join(list...)
}
