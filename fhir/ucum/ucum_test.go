package ucum_test

import (
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/fhir/ucum"
)

func TestQuantitiesThatAreEqualHaveEqualFloats(t *testing.T) { // S-13
	for _, tt := range []struct{ a, unitA, b, unitB string }{
		{"5.4", "g", "5400", "mg"},
		{"5.4", "g", "5.40", "g"},
		{"100", "mg/dL", "1", "g/L"},
		{"0.1", "g/dL", "1", "mg/mL"},
		{"37", "Cel", "98.6", "[degF]"},
		{"0", "Cel", "273.15", "K"},
		{"120", "mm[Hg]", "12", "cm[Hg]"},
		{"1", "kg", "1000", "g"},
		{"1", "[lb_av]", "453.59237", "g"},
		{"1", "[in_i]", "2.54", "cm"},
		{"6", "[ft_i]", "72", "[in_i]"},
		{"5", "mmol/L", "5", "mol/m3"},
		{"5", "meq/L", "5", "mmol/L"},
		{"4.2", "10*3/uL", "4.2", "10*9/L"},
		{"4.2", "10*3/uL", "4200", "/uL"},
		{"12", "%", "0.12", "1"},
		{"12", "{score}", "12", "1"},
		{"72", "/min", "1.2", "/s"},
		{"72", "{beats}/min", "72", "/min"},
		{"1", "h", "3600", "s"},
		{"2", "wk", "14", "d"},
		{"1", "a", "12", "mo"},
		{"10", "[IU]/L", "0.01", "k[iU]/L"},
		{"60", "U/L", "1", "ukat/L"},
		{"25", "kg/m2", "2.5", "g/cm2"},
		{"20", "dB", "2", "B"},
		{"90", "mL/min/{1.73_m2}", "1.5", "mL/s"},
		{"1", "kPa", "1000", "N/m2"},
		{"1", "m/(s.s)", "1", "m/s2"},
		{"-5", "Cel", "268.15", "K"},
		{"1e3", "mg", "1", "g"},
		{"1", "kcal", "4184", "J"},
		{"7", "[oz_av]", "0.4375", "[lb_av]"},
	} {
		a, errA := ucum.Parse(tt.unitA)
		b, errB := ucum.Parse(tt.unitB)
		if errA != nil || errB != nil {
			t.Errorf("%s, %s: %v, %v", tt.unitA, tt.unitB, errA, errB)
			continue
		}
		x, okX := a.Float(tt.a)
		y, okY := b.Float(tt.b)
		if a.Canonical() != b.Canonical() || x != y || !okX || !okY {
			t.Errorf("%s %s = %v %s, %s %s = %v %s", tt.a, tt.unitA, x, a.Canonical(), tt.b, tt.unitB, y, b.Canonical())
		}
	}
}

func TestUnitsOfOtherKindsAreNotCompared(t *testing.T) {
	for _, pair := range [][2]string{{"mg", "mL"}, {"[iU]", "mg"}, {"[iU]", "[arb'U]"}, {"mm[Hg]", "mm"}, {"[pH]", "1"}, {"B[SPL]", "B[V]"}, {"Cel", "m"}, {"g/L", "mol/L"}} {
		a, errA := ucum.Parse(pair[0])
		b, errB := ucum.Parse(pair[1])
		if errA != nil || errB != nil || a.Canonical() == b.Canonical() {
			t.Errorf("%v: %s %v, %s %v", pair, a.Canonical(), errA, b.Canonical(), errB)
		}
		if _, ok := ucum.Convert(big.NewRat(1, 1), a, b); ok {
			t.Errorf("%v: converted", pair)
		}
	}
}

func TestWhatIsNoUnitIsRefused(t *testing.T) {
	for _, code := range []string{
		"", " ", "mmHg", "cc", "beats", "mg/", "mg//dL", "mg..dL", "(mg", "mg)", "mg{", "{a{b}}", "kmin", "k[degF]", "m-", "2-", "0", "[in_i", "g^2", "µg",
		"[pH]/L", "Cel/s", "Cel2", "mg.[degF]", "10*99", "m51", strings.Repeat("(", 9) + "m" + strings.Repeat(")", 9), strings.Repeat("m.", 60) + "m", "YYm",
	} {
		if _, err := ucum.Parse(code); err == nil {
			t.Errorf("%q is a unit", code)
		} else if code != "" && len(code) > 3 && strings.Contains(err.Error(), code) {
			t.Errorf("%q: the error holds it", code)
		}
	}
	for _, text := range []string{"", "x", "1e999999999", "1e401", "--1", "1.2.3", "Inf", "0x1p3", "1/3"} {
		if v, ok := must(t, "mg").Float(text); ok {
			t.Errorf("%q is %v", text, v)
		}
	}
}

// units are in common clinical use.
// https://ucum.org/docs/common-units
const units = `% %{WBCs} /[HPF] /[LPF] /{cells} /a /d /g /h /L /m2 /min /mL /mm3 /mo /s /uL /wk [APL'U] [arb'U] [beth'U] [CFU]/L [degF] [drp] [foz_us] [ft_i]
	[GPL'U]/mL [IU] [IU]/(8.h) [IU]/d [IU]/kg/d [IU]/L [iU]/mL [in_i] [in_i'H2O] [lb_av] [MET].min [mi_i] [oz_av] [pH] [psi] [tbs_us] [tsp_us] {ratio} {INR} 10*3/uL 10*6/L
	10*12/L 10^9/L a ag/{cell} atm bar Bq C Cel cL cm cm[H2O] cm[H2O]/(s.m) cm2 cP d dB deg dg dL dyn.s/cm5 eq/L eV F fg fL fm fmol/mg{prot} g g.m g/(8.h) g/(kg.h)
	g/24.h g/cm3 g/d g/dL g/kg g/L g/m2 g/mol{creat} g{creat} Gy h Hz J k[IU]/L kat kat/L kBq kcal kcal/[oz_av] kcal/d kg kg.m/s kg/m2 kg/m3 kL km kPa ks L L/(min.m2) L/s L/min lm
	m m/s m[IU]/L m2 mA mbar meq meq/g{creat} meq/L mg mg/(24.h) mg/dL mg/g{creat} mg/kg/min mg/m2 mg{FEU}/L min mL mL/min/{1.73_m2} mL/cm[H2O] mL/kg/h mm mm/h mm[Hg] mmol/L
	mmol/mol{creat} mmol/kg/d mo mol mol/L mosm/kg{H2O} ms mU/L mV N ng ng/mL/h nkat nm nmol/min/mL ns nU/mL Ohm Pa pg pmol/L ps rad S Sv t T U U/10*6 U/g{Hb} U/L ug ug/dL
	ug/kg/min ug{FEU}/mL uL um umol/L us uV V W wk`

func must(t *testing.T, code string) ucum.Unit {
	t.Helper()
	u, err := ucum.Parse(code)
	if err != nil {
		t.Fatalf("%s: %v", code, err)
	}
	return u
}

func TestUnitsInCommonUseAreKnown(t *testing.T) {
	for code := range strings.FieldsSeq(units) {
		must(t, code)
	}
}

func TestEveryAtomHasAMeaning(t *testing.T) {
	for code := range ucum.Atoms() {
		if u := must(t, code); u.Canonical() == "" {
			t.Errorf("%s has no meaning", code)
		}
	}
}

// A value that is converted to another unit and written out has the same Float
// as before, on the quick way and on the exact one.
func TestConversionIsExact(t *testing.T) {
	codes := strings.Fields("g mg ug kg [lb_av] [oz_av] t ng [gr] u")
	rapid.Check(t, func(t *rapid.T) {
		from, _ := ucum.Parse(rapid.SampledFrom(codes).Draw(t, "from"))
		to, _ := ucum.Parse(rapid.SampledFrom(codes).Draw(t, "to"))
		v := big.NewRat(rapid.Int64Range(-1e12, 1e12).Draw(t, "digits"), 1)
		v.Quo(v, big.NewRat(int64(rapid.SampledFrom([]int{1, 10, 100, 1000, 1e6}).Draw(t, "scale")), 1))
		w, ok := ucum.Convert(v, from, to)
		if !ok {
			t.Fatal("not converted")
		}
		if back, _ := ucum.Convert(w, to, from); back.Cmp(v) != 0 {
			t.Fatalf("%v became %v", v, back)
		}
		want, _ := from.ToBase(v).Float64()
		if got, ok := from.Float(v.FloatString(6)); !ok || got != want {
			t.Fatalf("%v: got %v, want %v", v, got, want)
		}
	})
}

func TestProductsAndQuotientsHaveUnits(t *testing.T) {
	u, err := must(t, "mg").Over(must(t, "dL"))
	if err != nil || u.Canonical() != must(t, "g/L").Canonical() {
		t.Errorf("mg over dL: %v, %v", u.Canonical(), err)
	}
	if u, err = u.Times(must(t, "L")); err != nil || u.Canonical() != "g" {
		t.Errorf("g/L times L: %v, %v", u.Canonical(), err)
	}
	if _, err := must(t, "Cel").Times(must(t, "m")); err == nil {
		t.Error("Celsius has a product")
	}
}

func FuzzParse(f *testing.F) {
	for code := range strings.FieldsSeq(units) {
		f.Add(code, "1.5")
	}
	f.Fuzz(func(t *testing.T, code, value string) {
		u, err := ucum.Parse(code)
		if err != nil {
			return
		}
		if u.Canonical() == "" {
			t.Error("a unit without a dimension")
		}
		u.Float(value)
	})
}

func BenchmarkFloat(b *testing.B) {
	for _, code := range []string{"mg/dL", "[degF]", "mmol/L"} {
		b.Run(strings.ReplaceAll(code, "/", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				u, _ := ucum.Parse(code)
				u.Float("98.6")
			}
		})
	}
}
