//go:build race

package conformance

// underRace says that the server is to be built with the race detector too.
const underRace = true
