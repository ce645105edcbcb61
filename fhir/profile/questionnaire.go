package profile

import (
	"maps"
	"slices"
	"strconv"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A questionnaire is a Questionnaire, read.
// https://hl7.org/fhir/R4/questionnaire.html
type questionnaire struct {
	items    []*question
	byLinkID map[string]*question
	count    int
}

// A question is an item of a Questionnaire: also a group, and text that is
// displayed.
// https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item
type question struct {
	node              path.Node
	linkID, typ       string
	order             int      // among all
	types             []string // of its answers, none of what has none
	in                *question
	items             []*question
	required, repeats bool
	maxLength         int
	when              []condition
	whenAny           bool // one condition is enough
	valueSet          string
	options           []option
	limits            limits
}

// A condition is one of those on which an item is enabled.
// https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen
type condition struct {
	node               path.Node
	question, operator string
	answer             path.Node
}

// An option is one of the answers that may be given.
type option struct {
	value     path.Node
	exclusive bool
}

// limits are what extensions say of the answers.
// https://hl7.org/fhir/R4/questionnaire-profiles.html
type limits struct {
	minOccurs, maxOccurs int // 0 for none
	minLength            int
	decimals             int // -1 for any
	maxSize              float64
	mimeTypes            []string
	targets              []string // types of resources
	units                []path.Node
	unitValueSet         string
	least, greatest      path.Node
}

type questionnaireKey string

// questionnaire returns the Questionnaire with the canonical, nil if it is not
// known or cannot be read.
func (r *run) questionnaire(canonical string) *questionnaire {
	d, ok := r.v.set.Find("Questionnaire", canonical)
	if !ok {
		return nil
	}
	made, err := r.v.set.Memo(questionnaireKey(d.Canonical()), func() (any, error) {
		json := d.JSON()
		r.steps(len(json) / bytesPerStep)
		v, err := fastjson.ParseBytes(json)
		if err != nil {
			return nil, fhir.Errorf(fhir.Structure, "the Questionnaire is not well-formed JSON")
		}
		settle(v)
		return readQuestionnaire(path.Complex(r4.TypeOf("Questionnaire"), v)), nil
	})
	if err != nil {
		return nil
	}
	return made.(*questionnaire)
}

func readQuestionnaire(root path.Node) *questionnaire {
	q := &questionnaire{byLinkID: map[string]*question{}}
	q.items = q.read(root, nil)
	return q
}

// read reads the items directly in n.
func (q *questionnaire) read(n path.Node, in *question) []*question {
	var list []*question
	for item := range n.Child("item") {
		v := item.JSON()
		it := &question{
			node: item, in: in, order: q.count, linkID: stringIn(v, "linkId"), typ: stringIn(v, "type"), required: v.GetBool("required"),
			repeats: v.GetBool("repeats"), maxLength: v.GetInt("maxLength"), valueSet: stringIn(v, "answerValueSet"),
			whenAny: stringIn(v, "enableBehavior") == "any", limits: readLimits(item),
		}
		q.byLinkID[it.linkID] = it
		q.count++
		for w := range item.Child("enableWhen") {
			c := condition{node: w, question: stringIn(w.JSON(), "question"), operator: stringIn(w.JSON(), "operator")}
			c.answer, _ = first(w, "answer")
			it.when = append(it.when, c)
		}
		for o := range item.Child("answerOption") {
			if value, ok := first(o, "value"); ok {
				it.options = append(it.options, option{value, o.JSON().Exists("extension") && isExclusive(o)})
			}
		}
		it.types = it.answerTypes()
		it.items = q.read(item, it)
		list = append(list, it)
	}
	return list
}

// first returns the first value of the child with the name.
func first(n path.Node, name string) (path.Node, bool) {
	for c := range n.Child(name) {
		return c, true
	}
	return path.Node{}, false
}

const sdc = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-"

func isExclusive(option path.Node) bool {
	for x := range option.Child("extension") {
		if stringIn(x.JSON(), "url") == base+"questionnaire-optionExclusive" {
			return x.JSON().GetBool("valueBoolean")
		}
	}
	return false
}

func readLimits(item path.Node) limits {
	l := limits{decimals: -1}
	for x := range item.Child("extension") {
		value, ok := first(x, "value")
		if !ok || value.JSON() == nil {
			continue
		}
		v := value.JSON()
		switch stringIn(x.JSON(), "url") {
		case base + "questionnaire-minOccurs":
			l.minOccurs = integer(v)
		case base + "questionnaire-maxOccurs":
			l.maxOccurs = integer(v)
		case base + "minLength":
			l.minLength = integer(v)
		case base + "maxDecimalPlaces":
			l.decimals = integer(v)
		case base + "maxSize":
			l.maxSize, _ = v.Float64()
		case base + "mimeType":
			l.mimeTypes = append(l.mimeTypes, string(v.GetStringBytes()))
		case base + "questionnaire-referenceResource":
			l.targets = append(l.targets, string(v.GetStringBytes()))
		case base + "questionnaire-unitOption":
			l.units = append(l.units, value)
		case base + "questionnaire-unitValueSet":
			l.unitValueSet = string(v.GetStringBytes())
		case base + "minValue", sdc + "minQuantity":
			l.least = value
		case base + "maxValue", sdc + "maxQuantity":
			l.greatest = value
		}
	}
	return l
}

// integer returns v as a number of things, 0 if it is none.
func integer(v *fastjson.Value) int {
	n, err := v.Int()
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// is reports whether q is, or is in, the other.
func (q *question) is(other *question) bool {
	for ; q != nil; q = q.in {
		if q == other {
			return true
		}
	}
	return false
}

// answerTypes returns the types that answers of q may have, by its type and
// its options.
// https://hl7.org/fhir/R4/valueset-item-type.html
func (q *question) answerTypes() []string {
	switch q.typ {
	case "text":
		return []string{"string"}
	case "url":
		return []string{"uri"}
	case "attachment", "reference", "quantity":
		return []string{string(q.typ[0]-'a'+'A') + q.typ[1:]}
	case "choice", "open-choice":
		types := []string{"Coding"}
		if len(q.options) > 0 {
			types = nil
		}
		for _, o := range q.options {
			if !slices.Contains(types, o.value.Type()) {
				types = append(types, o.value.Type())
			}
		}
		if q.typ == "open-choice" {
			types = append(types, "string")
		}
		return types
	case "group", "display", "question":
		return nil
	}
	return []string{q.typ}
}

// whens holds the conditions of a Questionnaire that is walked against its
// items: each asks about another question.
func (r *run) whens(n path.Node) {
	q := readQuestionnaire(n)
	for _, id := range slices.Sorted(maps.Keys(q.byLinkID)) {
		it := q.byLinkID[id]
		for i, w := range it.when {
			if !r.step() {
				return
			}
			about := q.byLinkID[w.question]
			switch {
			case about == nil:
				r.inItem(n, it, i, "a condition asks about a question that there is not")
			case about.is(it):
				r.inItem(n, it, i, "a condition asks about the item itself, or one in it")
			}
		}
	}
}

// inItem adds an error at a condition of an item in the Questionnaire n.
func (r *run) inItem(n path.Node, it *question, condition int, words string) {
	var at []path.Node
	for q := it; q != nil; q = q.in {
		at = append(at, q.node)
	}
	slices.Reverse(at)
	outer := len(r.at)
	r.at = append(append(r.at, at...), it.when[condition].node)
	r.fault(fhir.Invariant, "%s", words)
	r.at = r.at[:outer]
}

// label returns how words name an item, which whoever wrote the Questionnaire
// has called so.
func (q *question) label() string {
	return strconv.Quote(clipped(q.linkID, maxLabel))
}
