package canonical

import (
	"cmp"
	"strings"
)

// compareVersions orders business versions by their dot-separated parts:
// numbers by value, and what follows a hyphen before the version itself, as in
// 6.1.0-ballot before 6.1.0.
// https://semver.org/#spec-item-11
func compareVersions(a, b string) int {
	a, preA, isPreA := strings.Cut(a, "-")
	b, preB, isPreB := strings.Cut(b, "-")
	if c := compareParts(a, b); c != 0 {
		return c
	}
	if isPreA != isPreB {
		if isPreA {
			return -1
		}
		return 1
	}
	return compareParts(preA, preB)
}

func compareParts(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if c := comparePart(x, y); c != 0 {
			return c
		}
	}
	return 0
}

// comparePart puts no part before numbers, and numbers before words.
func comparePart(x, y string) int {
	if c := cmp.Compare(rank(x), rank(y)); c != 0 {
		return c
	}
	if rank(x) == 1 {
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
	}
	return strings.Compare(x, y)
}

func rank(part string) int {
	switch {
	case part == "":
		return 0
	case strings.Trim(part, "0123456789") == "":
		return 1
	}
	return 2
}
