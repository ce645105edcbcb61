package rest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// A person is a patient of a made-up town. Several records can be of one.
type person struct {
	who                   int
	family, given, suffix string
	birth, gender         string
	phone, street, code   string
	number                string // "" if the record has none
}

func (p person) json(id string) string {
	var b strings.Builder
	b.WriteString(`{"resourceType":"Patient"`)
	if id != "" {
		fmt.Fprintf(&b, `,"id":%q`, id)
	}
	fmt.Fprintf(&b, `,"name":[{"family":%q,"given":[%q]`, p.family, p.given)
	if p.suffix != "" {
		fmt.Fprintf(&b, `,"suffix":[%q]`, p.suffix)
	}
	fmt.Fprintf(&b, `}],"gender":%q`, p.gender)
	if p.birth != "" {
		fmt.Fprintf(&b, `,"birthDate":%q`, p.birth)
	}
	if p.phone != "" {
		fmt.Fprintf(&b, `,"telecom":[{"system":"phone","value":%q}]`, p.phone)
	}
	if p.street != "" {
		fmt.Fprintf(&b, `,"address":[{"line":[%q],"postalCode":%q}]`, p.street, p.code)
	}
	if p.number != "" {
		fmt.Fprintf(&b, `,"identifier":[{"system":"urn:town","value":%q}]`, p.number)
	}
	return b.String() + "}"
}

var (
	townFamilies = strings.Fields("Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez Wilson Anderson Thomas Taylor Moore " +
		"Jackson Martin Lee Perez Thompson White Harris Sanchez Clark Ramirez Lewis Robinson Walker Young Allen King Wright Scott Torres Nguyen Hill Flores " +
		"Green Adams Nelson Baker Hall Rivera Campbell Mitchell Carter Roberts Ødegård Łukasiewicz Müller O'Brien Fernández-Vega Papadopoulos Kowalski Yılmaz Schwarzenberger Featherstonehaugh")
	townGivens = map[string][]string{
		"female": strings.Fields("Mary Patricia Jennifer Linda Elizabeth Barbara Susan Jessica Sarah Karen Lisa Nancy Betty Sandra Margaret Ashley Kimberly Emily Donna Michelle Anna Anne Hannah Johanna Marie Maria"),
		"male":   strings.Fields("James Robert John Michael David William Richard Joseph Thomas Christopher Charles Daniel Matthew Anthony Mark Donald Steven Andrew Paul Joshua Jon Jonathan Hans Johann Marc Marco"),
	}
)

// aTown returns households with twins, juniors and couples, the same for the same
// seed. Names are as unevenly frequent as they are among people.
func aTown(r *rand.Rand, people int) []person {
	common := func(list []string) string { return list[int(float64(len(list))*r.Float64()*r.Float64())] }
	born := func(from, to int) string {
		return fmt.Sprintf("%d-%02d-%02d", from+r.IntN(to-from), 1+r.IntN(12), 1+r.IntN(28))
	}
	genders := []string{"female", "male"}
	var town []person
	add := func(p person) person {
		p.who, p.number = len(town), fmt.Sprintf("T%05d", len(town))
		town = append(town, p)
		return p
	}
	for len(town) < people {
		home := person{
			family: common(townFamilies), phone: fmt.Sprintf("555-%07d", r.IntN(1e7)),
			street: fmt.Sprintf("%d Main Street", 1+r.IntN(300)), code: fmt.Sprintf("%05d", 10000+r.IntN(40)),
		}
		member := func(birth, gender string) person {
			p := home
			p.birth, p.gender, p.given = birth, gender, common(townGivens[gender])
			return p
		}
		parent := add(member(born(1940, 1990), genders[r.IntN(2)]))
		switch r.IntN(5) {
		case 0: // a couple
			add(member(born(1940, 1990), genders[r.IntN(2)]))
		case 1: // a junior
			child := member(born(1990, 2020), parent.gender)
			child.given = parent.given
			if r.IntN(2) == 0 {
				child.suffix = "Jr."
			}
			add(child)
		case 2: // twins
			one := member(born(1990, 2020), genders[r.IntN(2)])
			other := member(one.birth, one.gender)
			for other.given == one.given {
				other.given = common(townGivens[one.gender])
			}
			add(one)
			add(other)
		}
	}
	return town
}

// again is how the person is registered another time: in a hurry, on the phone,
// after a wedding.
func again(r *rand.Rand, p person) person {
	typo := func(s string) string {
		runes := []rune(s)
		if len(runes) < 3 {
			return s
		}
		i := r.IntN(len(runes) - 1)
		switch r.IntN(3) {
		case 0:
			runes[i], runes[i+1] = runes[i+1], runes[i]
		case 1:
			runes = append(runes[:i:i], runes[i+1:]...)
		default:
			runes[i] = rune('a' + r.IntN(26))
		}
		return string(runes)
	}
	if r.IntN(3) > 0 {
		p.number = "" // most do not know their number
	}
	for range r.IntN(3) {
		switch r.IntN(10) {
		case 0:
			p.family = typo(p.family)
		case 1:
			p.given = typo(p.given)
		case 2:
			p.birth = ""
		case 3:
			if p.birth != "" { // day and month swapped
				p.birth = p.birth[:5] + p.birth[8:] + "-" + p.birth[5:7]
			}
		case 4:
			if p.birth != "" {
				p.birth = p.birth[:3] + fmt.Sprint(r.IntN(10)) + p.birth[4:]
			}
		case 5:
			p.given, p.family = p.family, p.given
		case 6:
			p.given = p.given[:1]
		case 7:
			p.street, p.code, p.phone = fmt.Sprintf("%d Elm Road", r.IntN(100)), "20000", ""
		case 8:
			p.phone = ""
		case 9:
			p.family = townFamilies[r.IntN(len(townFamilies))]
		}
	}
	if m := p.birth; len(m) == 10 && m[5:7] > "12" { // no such month: it was not taken
		p.birth = ""
	}
	return p
}

// A tally counts what became of questions.
type tally struct{ asked, right, wrong int }

func (t tally) String() string {
	precision := 1.0
	if t.right+t.wrong > 0 {
		precision = float64(t.right) / float64(t.right+t.wrong)
	}
	return fmt.Sprintf("precision %.4f, recall %.4f (%d of %d found, %d wrong)", precision, float64(t.right)/float64(t.asked), t.right, t.asked, t.wrong)
}

// T137: whom a match calls certain is the person, among twins, juniors, namesakes
// and misspelt records; and few are missed by whoever looks through all it shows.
func TestACertainMatchIsNeverAnother(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	town := aTown(r, 1000)
	known := make([]traits, len(town))
	for i, p := range town {
		known[i] = traitsOf([]byte(p.json("")))
	}
	var certain, probableOrMore, shown tally
	for range 1000 {
		p := again(r, town[r.IntN(len(town))])
		asked := traitsOf([]byte(p.json("")))
		for _, c := range []*tally{&certain, &probableOrMore, &shown} {
			c.asked++
		}
		for i, other := range town {
			m := asked.compare(known[i]).match()
			count := func(c *tally, in bool) {
				switch {
				case in && other.who == p.who:
					c.right++
				case in:
					c.wrong++
				}
			}
			count(&certain, m.certain)
			count(&probableOrMore, m.score >= probable)
			count(&shown, m.score >= possible)
			if m.certain && other.who != p.who {
				t.Errorf("%s is called %s", p.json(""), other.json(""))
			}
		}
	}
	t.Logf("certain: %s\nprobable or more: %s\nshown: %s", certain, probableOrMore, shown)
	if certain.wrong > 0 || certain.right < certain.asked/3 || probableOrMore.right < probableOrMore.asked*8/10 || shown.right < shown.asked*95/100 {
		t.Error("the weights have lost what they were")
	}
}

// T137: the same through the index, which must bring up the candidates without
// looking at everybody.
func TestTheIndexBringsUpWhoMayMatch(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.S2, all)
	r := rand.New(rand.NewPCG(3, 5))
	town, mark := aTown(r, 300), fresh()
	entries := make([]string, len(town))
	for i, p := range town {
		id := fmt.Sprint(mark, "-", p.who)
		entries[i] = `{"resource":` + p.json(id) + `,"request":{"method":"PUT","url":"Patient/` + id + `"}}`
	}
	c.must(200, "POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[`+strings.Join(entries, ",")+`]}`)
	var certain, shown tally
	for range 100 {
		p := again(r, town[r.IntN(len(town))])
		who := fmt.Sprint(mark, "-", p.who)
		certain.asked++
		shown.asked++
		found := graded(t, c.must(200, "POST", "/Patient/$match", p.json("")))
		for one := range strings.FieldsSeq(found) {
			id, grade, _ := strings.Cut(one, "=")
			if grade == "certain" && id != who {
				t.Errorf("%s is called %s", p.json(""), id)
			} else if grade == "certain" {
				certain.right++
			}
			if id == who {
				shown.right++
			} else {
				shown.wrong++
			}
		}
	}
	t.Logf("certain: %s\nshown: %s", certain, shown)
	if shown.right < shown.asked*9/10 || certain.right < certain.asked/4 {
		t.Error("too few are brought up")
	}
}
