package smart

import (
	"embed"
	"maps"
	"slices"
	"strings"
)

// The policies that come with Cordon, for a tenant to take as they are or to
// begin with.
//
//go:embed profiles/*.cedar
var profileFiles embed.FS

// profiles are their texts, by name.
var profiles = func() map[string]string {
	entries, err := profileFiles.ReadDir("profiles")
	if err != nil {
		panic(err) // they are part of the program
	}
	texts := map[string]string{}
	for _, e := range entries {
		text, err := profileFiles.ReadFile("profiles/" + e.Name())
		if err != nil {
			panic(err)
		}
		texts[strings.TrimSuffix(e.Name(), ".cedar")] = string(text)
	}
	return texts
}()

// Profiles are the names of the policies that come with Cordon.
func Profiles() []string { return slices.Sorted(maps.Keys(profiles)) }

// Profile returns the text of a policy that comes with Cordon.
func Profile(name string) (text string, ok bool) {
	text, ok = profiles[name]
	return text, ok
}
