package search

import (
	"math"
	"slices"
	"strconv"
)

// Within holds where the position at Path is at most Meters from the point. An
// index narrows it to a box by the numbers of the position; the distance is
// taken from the opened body.
// https://hl7.org/fhir/R4/location.html#positional
type Within struct {
	Path     Path
	Lat, Lon float64
	Meters   float64
}

func (Within) expr() {}

// Paths of the numbers of a position.
const (
	latSuffix Path = ".latitude"
	lonSuffix Path = ".longitude"
)

// earthRadius is the mean radius of the earth in meters.
const earthRadius = 6_371_008.8

// usualDistance is meant where a search names none, in kilometers.
const usualDistance = "50"

// lengths are the units of distance, in UCUM, in meters; "mi" is what people
// write.
var lengths = map[string]float64{
	"km": 1000, "m": 1, "cm": 0.01, "[mi_us]": 1609.347218694438, "[mi_i]": 1609.344, "mi": 1609.344,
	"[nmi_i]": 1852, "[ft_i]": 0.3048, "[ft_us]": 1200.0 / 3937, "[yd_i]": 0.9144,
}

// near reads latitude|longitude|distance|unit; the last two may be missing.
// https://hl7.org/fhir/R4/location.html#search
func (e element) near(name, text string) (Expr, error) {
	part := splitEscaped(text, '|')
	if len(part) < 2 || len(part) > 4 {
		return nil, invalid(name, "must be latitude|longitude|distance|unit")
	}
	part = append(part, "", "")
	if part[2] == "" {
		if part[3] != "" {
			return nil, invalid(name, "has a unit without a distance")
		}
		part[2] = usualDistance
	}
	var n [3]float64
	for i := range n {
		if !isDecimal(part[i]) || len(part[i]) > 32 {
			return nil, invalid(name, "has a latitude, longitude or distance that is not a number")
		}
		n[i], _ = strconv.ParseFloat(part[i], 64)
	}
	if math.Abs(n[0]) > 90 || math.Abs(n[1]) > 180 || n[2] < 0 || math.IsInf(n[2], 0) {
		return nil, invalid(name, "has a latitude beyond 90, a longitude beyond 180 or a negative distance")
	}
	unit := part[3]
	if unit == "" {
		unit = "km"
	}
	meters, ok := lengths[unit]
	if !ok {
		return nil, unsupported(name, "has a unit that is no length in UCUM, such as km, m or [mi_us]")
	}
	w := Within{e.path, n[0], n[1], n[2] * meters}
	return append(w.box(), w), nil
}

// box returns bounds on the numbers of a position that everything within w
// meets, with room for rounding.
func (w Within) box() And {
	angle := w.Meters/earthRadius*(1+1e-9) + 1e-9
	lat, degrees := w.Lat*math.Pi/180, func(radians float64) float64 { return radians * 180 / math.Pi }
	bounds := func(path Path, lo, hi float64) Expr {
		return InNumber{path, "", []NumberBound{{Lo, GE, lo}, {Hi, LE, hi}}}
	}
	box := And{bounds(w.Path+latSuffix, degrees(lat-angle), degrees(lat+angle))}
	if angle >= math.Pi/2 || math.Abs(lat)+angle >= math.Pi/2 {
		return box // it holds a pole, and so every longitude
	}
	wide := degrees(math.Asin(math.Min(1, math.Sin(angle)/math.Cos(lat)))) + 1e-9
	west, east := w.Lon-wide, w.Lon+wide
	lon := w.Path + lonSuffix
	switch {
	case west < -180:
		return append(box, Or{bounds(lon, -180, east), bounds(lon, west+360, 180)})
	case east > 180:
		return append(box, Or{bounds(lon, west, 180), bounds(lon, -180, east-360)})
	}
	return append(box, bounds(lon, west, east))
}

// holds reports whether the position of a resource with the terms is within w.
func (w Within) holds(t *Terms) bool {
	at := func(path Path) (float64, bool) {
		i := slices.IndexFunc(t.Numbers, func(n NumberRange) bool { return n.Path == path })
		if i < 0 {
			return 0, false
		}
		return t.Numbers[i].Lo, true
	}
	lat, hasLat := at(w.Path + latSuffix)
	lon, hasLon := at(w.Path + lonSuffix)
	return hasLat && hasLon && distance(w.Lat, w.Lon, lat, lon) <= w.Meters
}

// Keys returns nothing: the numbers of the box have narrowed it.
func (Within) Keys() []Token { return nil }

// distance returns the meters between two points on a sphere.
// https://en.wikipedia.org/wiki/Haversine_formula
func distance(lat1, lon1, lat2, lon2 float64) float64 {
	const radian = math.Pi / 180
	sin := func(degrees float64) float64 { return math.Sin(degrees * radian / 2) }
	dLat, dLon := sin(lat2-lat1), sin(lon2-lon1)
	h := dLat*dLat + math.Cos(lat1*radian)*math.Cos(lat2*radian)*dLon*dLon
	return 2 * earthRadius * math.Asin(math.Min(1, math.Sqrt(h)))
}

// position indexes the numbers of a position, which are of a place and not of
// a person.
func (x *indexer) position(l *leaf, v value) bool {
	lat, hasLat := decimal(x.spelled(v.Get("latitude")))
	lon, hasLon := decimal(x.spelled(v.Get("longitude")))
	if !hasLat || !hasLon {
		return false
	}
	x.terms.Numbers = append(x.terms.Numbers, NumberRange{l.path + latSuffix, "", lat, lat}, NumberRange{l.path + lonSuffix, "", lon, lon})
	return true
}
