package smart

import (
	"slices"
	"strings"
)

// LaunchWords are the scopes that are not for resources: they ask who the user
// is, for a context, or to be let in again later.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
var LaunchWords = []string{
	"openid", "fhirUser", "profile", "launch", "launch/patient", "launch/encounter", "offline_access", "online_access",
}

// OpenLaunchWord is the scope of a client that may open launches: an EHR. A name
// with two underscores is of the server's own.
const OpenLaunchWord = "__launch.open"

// IntrospectWord is the scope of a client that may ask of any token what it is:
// a resource server.
const IntrospectWord = "__introspect"

// IsWord reports whether text is a scope that is not for resources.
func IsWord(text string) bool {
	return slices.Contains(LaunchWords, text) || text == OpenLaunchWord || text == IntrospectWord
}

// SplitScopes tells the words of a scope parameter from the scopes for
// resources. What is neither is left out, so it is not granted. It reports
// false if there are more than can be meant.
func SplitScopes(text string) (words []string, scopes []Scope, ok bool) {
	all := strings.Fields(text)
	if len(all) > maxScopes {
		return nil, nil, false
	}
	seen := map[string]bool{}
	for _, one := range all {
		if seen[one] {
			continue
		}
		seen[one] = true
		if slices.Contains(LaunchWords, one) {
			words = append(words, one)
		} else if sc, err := ParseScope(one); err == nil {
			scopes = append(scopes, sc)
		}
	}
	return words, scopes, true
}

// OfSystem reports whether the scope is for no user.
func (sc Scope) OfSystem() bool { return sc.whose == ofSystem }

// OfPatient reports whether the scope is for the patient in context.
func (sc Scope) OfPatient() bool { return sc.whose == ofPatient }
