package profile

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
)

// An answered is an item of a QuestionnaireResponse.
// https://hl7.org/fhir/R4/questionnaireresponse-definitions.html#QuestionnaireResponse.item
type answered struct {
	node    path.Node
	way     []path.Node // from the resource to the item
	linkID  string
	in      *answered // the item that it is in, nil at the top
	depth   int
	items   []*answered // in it, or in an answer of it
	answers []path.Node
}

// A response is a QuestionnaireResponse that is held against its
// Questionnaire.
type response struct {
	*run
	q        *questionnaire
	byLinkID map[string][]*answered
	complete bool // what is required must be there
}

// response holds a QuestionnaireResponse against the Questionnaire that it
// names.
// https://hl7.org/fhir/R4/questionnaireresponse.html#link
func (r *run) response(n path.Node) {
	canonical := stringIn(n.JSON(), "questionnaire")
	if canonical == "" {
		return
	}
	q := r.questionnaire(canonical)
	if q == nil {
		r.warn(fhir.NotFound, "the Questionnaire is not known here, so the answers were not held against it")
		return
	}
	status := stringIn(n.JSON(), "status")
	a := &response{run: r, q: q, byLinkID: map[string][]*answered{}, complete: status == "completed" || status == "amended"}
	list := a.read(n, nil, nil)
	a.level(q.items, list, nil, nil)
}

// read reads the items directly in n.
func (a *response) read(n path.Node, way []path.Node, in *answered) []*answered {
	var list []*answered
	for item := range n.Child("item") {
		if !a.step() {
			break
		}
		it := &answered{node: item, way: append(slices.Clip(way), item), linkID: stringIn(item.JSON(), "linkId"), in: in}
		if in != nil {
			it.depth = in.depth + 1
		}
		a.byLinkID[it.linkID] = append(a.byLinkID[it.linkID], it)
		it.items = a.read(item, it.way, it)
		for answer := range item.Child("answer") {
			it.answers = append(it.answers, answer)
			it.items = append(it.items, a.read(answer, append(slices.Clip(it.way), answer), it)...)
		}
		list = append(list, it)
	}
	return list
}

// walk calls fn at the end of a way from the resource.
func (a *response) walk(way []path.Node, fn func()) {
	outer := len(a.at)
	a.at = append(a.at, way...)
	fn()
	a.at = a.at[:outer]
}

// level holds the items that are directly in one place against the questions
// that belong there: those of a question, in an item that answers it.
func (a *response) level(questions []*question, list []*answered, of *question, in *answered) {
	byQuestion := map[*question][]*answered{}
	last := -1
	for _, it := range list {
		q := a.q.byLinkID[it.linkID]
		switch {
		case !a.steps(1 + len(it.way)):
			return
		case q == nil:
			a.walk(it.way, func() { a.fault(fhir.Value, "the Questionnaire has no item with the linkId") })
		case q.in != of:
			a.walk(it.way, func() { a.fault(fhir.Structure, "the item belongs elsewhere in the Questionnaire") })
		case q.order < last:
			a.walk(it.way, func() { a.fault(fhir.Structure, "the item is out of the order of the Questionnaire") })
		default:
			last = q.order
			byQuestion[q] = append(byQuestion[q], it)
		}
	}
	for _, q := range questions {
		if a.step() {
			a.question(q, byQuestion[q], in)
		}
	}
}

// question holds the items of one question, in one place, against it.
func (a *response) question(q *question, list []*answered, in *answered) {
	if !a.enabled(q, in) {
		for _, it := range list {
			if len(it.answers) > 0 || len(it.items) > 0 {
				a.walk(it.way, func() { a.fault(fhir.BusinessRule, "the item %s is answered, although it is not enabled", q.label()) })
			}
		}
		return
	}
	if len(list) > 1 && !(q.typ == "group" && q.repeats) {
		a.walk(list[1].way, func() { a.fault(fhir.Structure, "the item %s must be there once at most", q.label()) })
	}
	count := len(list)
	if q.typ != "group" {
		count = 0
		for _, it := range list {
			count += len(it.answers)
		}
	}
	a.counted(q, list, count, in)
	for _, it := range list {
		a.item(q, it)
	}
}

// counted holds the number of answers, or of groups, against what q says.
func (a *response) counted(q *question, list []*answered, count int, in *answered) {
	at := func(fn func()) {
		switch {
		case len(list) > 0:
			a.walk(list[0].way, fn)
		case in != nil:
			a.walk(in.way, fn)
		default:
			fn()
		}
	}
	least := q.limits.minOccurs
	if q.required {
		least = max(least, 1)
	}
	switch {
	case q.typ == "display":
	case a.complete && count < least && least == 1:
		at(func() { a.fault(fhir.Required, "the item %s must be answered", q.label()) })
	case a.complete && count < least:
		at(func() { a.fault(fhir.Required, "the item %s must have at least %d answers", q.label(), least) })
	case q.limits.maxOccurs > 0 && count > q.limits.maxOccurs:
		at(func() {
			a.fault(fhir.Structure, "the item %s must have at most %d answers", q.label(), q.limits.maxOccurs)
		})
	case q.typ != "group" && !q.repeats && count > 1:
		at(func() { a.fault(fhir.Structure, "the item %s must have one answer", q.label()) })
	}
}

// item holds one item against its question.
func (a *response) item(q *question, it *answered) {
	if q.types == nil && len(it.answers) > 0 {
		a.walk(it.way, func() { a.fault(fhir.Structure, "the item %s, of type %s, must have no answer", q.label(), q.typ) })
		return
	}
	if q.typ == "group" {
		a.level(q.items, it.items, q, it)
		return
	}
	if it.node.JSON().Exists("item") {
		a.walk(it.way, func() { a.fault(fhir.Structure, "items in the item %s belong into its answer", q.label()) })
		return
	}
	exclusive := false
	for _, answer := range it.answers {
		value, ok := first(answer, "value")
		if !ok {
			continue
		}
		way := append(slices.Clip(it.way), answer, value)
		a.walk(way, func() { exclusive = a.answer(q, value) || exclusive })
		a.level(q.items, a.below(it, answer), q, it)
	}
	if exclusive && len(it.answers) > 1 {
		a.walk(it.way, func() { a.fault(fhir.BusinessRule, "one answer of the item %s excludes all others", q.label()) })
	}
}

// below returns the items that are in one answer of it.
func (a *response) below(it *answered, answer path.Node) []*answered {
	var list []*answered
	for _, sub := range it.items {
		if a.step() && sub.node.Parent() == answer.JSON() {
			list = append(list, sub)
		}
	}
	return list
}

// enabled reports whether q is to be answered in an item, nil for at the top.
// https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen
func (a *response) enabled(q *question, in *answered) bool {
	if len(q.when) == 0 {
		return true
	}
	for i := range q.when {
		if a.step() && a.met(&q.when[i], in) == q.whenAny {
			return q.whenAny
		}
	}
	return !q.whenAny
}

// met reports whether the condition is met for an item that is in another.
func (a *response) met(c *condition, in *answered) bool {
	var answers []path.Node
	nearest := -1
	for _, it := range a.byLinkID[c.question] {
		if !a.steps(1 + len(it.answers)) {
			return false
		}
		depth := a.common(it, in)
		if depth > nearest {
			nearest, answers = depth, nil
		}
		if depth == nearest {
			answers = append(answers, it.answers...)
		}
	}
	if c.operator == "exists" {
		return (len(answers) > 0) == c.answer.JSON().GetBool()
	}
	return slices.ContainsFunc(answers, func(answer path.Node) bool {
		value, ok := first(answer, "value")
		return ok && a.compare(value, c.operator, c.answer)
	})
}

// common returns how deep the innermost item is that both are in: of several
// items with one linkId the nearest is meant.
func (a *response) common(x, y *answered) int {
	for x != nil && y != nil && x != y && a.step() {
		if x.depth >= y.depth {
			x = x.in
		} else {
			y = y.in
		}
	}
	if x == nil || x != y {
		return 0
	}
	return x.depth + 1
}

// comparisons are the operators between two values, by FHIRPath.
var comparisons = map[string]*path.Expr{
	"=": path.MustParse("$this = %told"), "!=": path.MustParse("$this != %told"),
	"<": path.MustParse("$this < %told"), "<=": path.MustParse("$this <= %told"),
	">": path.MustParse("$this > %told"), ">=": path.MustParse("$this >= %told"),
}

// compare reports whether the value is as the operator says. Two that cannot be
// compared are not.
func (a *response) compare(value path.Node, operator string, told path.Node) bool {
	if told.IsZero() || !a.step() {
		return false
	}
	if value.Type() == "Coding" && told.Type() == "Coding" && (operator == "=" || operator == "!=") {
		return a.sameCode(value, told) == (operator == "=")
	}
	x := comparisons[operator]
	if x == nil {
		return false
	}
	ctx := a.scope.context
	ctx.Constants = map[string][]path.Node{"told": {told}}
	holds, err := x.Holds(&ctx, value)
	return err == nil && holds
}

// sameCode reports whether two Codings are of one concept, or have one display
// where they have no code.
func (a *response) sameCode(x, y path.Node) bool {
	part := func(name string) bool { return stringIn(x.JSON(), name) == stringIn(y.JSON(), name) }
	if !y.JSON().Exists("code") {
		return !x.JSON().Exists("code") && part("display")
	}
	return part("system") && part("code")
}

// answer holds one value against its question. It reports whether it excludes
// all others.
func (a *response) answer(q *question, v path.Node) (exclusive bool) {
	if !slices.Contains(q.types, v.Type()) {
		a.fault(fhir.Value, "an answer of the item %s must be a %s", q.label(), some(q.types, " or a "))
		return false
	}
	open := q.typ == "open-choice"
	if len(q.options) > 0 {
		i := slices.IndexFunc(q.options, func(o option) bool {
			return a.step() && o.value.Type() == v.Type() && a.chosen(o.value, v)
		})
		if i < 0 && !open {
			a.fault(fhir.CodeInvalid, "the answer is none of the options of the item %s", q.label())
		}
		exclusive = i >= 0 && q.options[i].exclusive
	}
	if q.valueSet != "" && !open && !strings.HasPrefix(q.valueSet, "#") {
		a.boundTo(q.valueSet, "required", v)
	}
	a.limited(q, v)
	return exclusive
}

// chosen reports whether v is the option.
func (a *response) chosen(o, v path.Node) bool {
	if v.Type() == "Reference" {
		return stringIn(o.JSON(), "reference") == stringIn(v.JSON(), "reference")
	}
	return a.compare(v, "=", o)
}

// limited holds a value against the limits of its question.
func (a *response) limited(q *question, v path.Node) {
	l := &q.limits
	if !a.steps((len(l.mimeTypes) + len(l.targets)) / namesPerStep) {
		return
	}
	if s, err := v.JSON().StringBytes(); err == nil && v.Type() == "string" && a.steps(len(s)/bytesPerStep) {
		n := utf8.RuneCount(s)
		if q.maxLength > 0 && n > q.maxLength {
			a.fault(fhir.TooLong, "an answer of the item %s must not be longer than %d characters", q.label(), q.maxLength)
		}
		if n < l.minLength {
			a.fault(fhir.Value, "an answer of the item %s must not be shorter than %d characters", q.label(), l.minLength)
		}
	}
	if v.Type() == "decimal" && l.decimals >= 0 {
		if _, digits, _ := strings.Cut(v.JSON().String(), "."); len(digits) > l.decimals {
			a.fault(fhir.Value, "an answer of the item %s must have at most %d digits after the point", q.label(), l.decimals)
		}
	}
	if !l.least.IsZero() && !a.compare(v, ">=", l.least) {
		a.fault(fhir.Value, "the answer is less than the item %s allows, or cannot be compared with that", q.label())
	}
	if !l.greatest.IsZero() && !a.compare(v, "<=", l.greatest) {
		a.fault(fhir.Value, "the answer is greater than the item %s allows, or cannot be compared with that", q.label())
	}
	switch v.Type() {
	case "Attachment":
		a.attachment(q, v)
	case "Reference":
		a.referred(q, v)
	case "Quantity":
		a.unit(q, v)
	}
}

func (a *response) attachment(q *question, v path.Node) {
	if of := stringIn(v.JSON(), "contentType"); len(q.limits.mimeTypes) > 0 && !slices.Contains(q.limits.mimeTypes, of) {
		a.fault(fhir.Value, "an attachment of the item %s must be of type %s", q.label(), some(q.limits.mimeTypes, " or "))
	}
	if q.limits.maxSize > 0 && v.JSON().GetFloat64("size") > q.limits.maxSize {
		a.fault(fhir.TooLong, "an attachment of the item %s must not be larger than %v bytes", q.label(), q.limits.maxSize)
	}
}

func (a *response) referred(q *question, v path.Node) {
	of := typeOfReference(stringIn(v.JSON(), "reference"))
	if of == "" {
		of = fhir.Type(stringIn(v.JSON(), "type"))
	}
	if len(q.limits.targets) > 0 && of.Known() && !slices.Contains(q.limits.targets, string(of)) {
		a.fault(fhir.Value, "an answer of the item %s must refer to a %s", q.label(), some(q.limits.targets, " or a "))
	}
}

func (a *response) unit(q *question, v path.Node) {
	l := &q.limits
	if l.unitValueSet != "" {
		a.boundTo(l.unitValueSet, "required", v)
		if !v.JSON().Exists("code") {
			a.fault(fhir.CodeInvalid, "the unit of an answer of the item %s must be coded", q.label())
		}
	}
	if len(l.units) > 0 && !slices.ContainsFunc(l.units, func(u path.Node) bool {
		return a.step() && stringIn(u.JSON(), "code") == stringIn(v.JSON(), "code") && stringIn(u.JSON(), "system") == stringIn(v.JSON(), "system")
	}) {
		a.fault(fhir.CodeInvalid, "the unit is none of those of the item %s", q.label())
	}
}
