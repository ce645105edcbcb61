package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Tombstone says that entries of a log were removed because their time was up.
// Their leaves stay, so every checkpoint and proof holds. It is itself in an entry
// of the log, and signed with the log's key.
type Tombstone struct {
	Origin string
	// Leaves are those whose entries were removed, in order and apart.
	Leaves []Span
	// Before is the time before which all of them were recorded.
	Before time.Time
	// Years is how long entries are kept, as it was set.
	Years int
	Time  time.Time
	// By is the server that removed them.
	By string
}

// A Span is leaves that lie side by side.
type Span struct{ From, To int64 } // To is excluded

// LeastYears is how long an entry is kept at least. The databases hold it too.
// https://www.ecfr.gov/current/title-45/section-164.316#p-164.316(b)(2)(i)
const LeastYears = 6

// spans returns the leaves as PostgreSQL spells a multirange.
// https://www.postgresql.org/docs/15/rangetypes.html#RANGETYPES-IO
func (t Tombstone) spans() string {
	b := []byte("{")
	for i, s := range t.Leaves {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "[%d,%d)", s.From, s.To)
	}
	return string(append(b, '}'))
}

// text is what is signed. Its second line is that of no checkpoint, so neither
// passes for the other.
func (t Tombstone) text() string {
	return fmt.Sprintf("%s\ntombstone\n%s\nbefore %s\nkept %d years\nby %s\ntime %s\n",
		t.Origin, t.spans(), t.Before.UTC().Format(timeForm), t.Years, t.By, t.Time.UTC().Format(timeForm))
}

// Sign returns t as a signed note.
func (t Tombstone) Sign(by Signer) ([]byte, error) {
	signed, err := SignText(t.text(), by)
	if err != nil {
		return nil, fmt.Errorf("signing a tombstone of %s: %w", t.Origin, err)
	}
	return signed, nil
}

// errTombstone says that a text is not the one of a tombstone.
var errTombstone = errors.New("ledger: malformed tombstone")

// OpenTombstone returns the tombstone in a note that is signed by the key of its
// log. There is one way to write each.
func OpenTombstone(signed []byte, by Key) (Tombstone, error) {
	t, _, err := NewTrust(by).openTombstone(signed)
	return t, err
}

// openTombstone returns the key that has signed it, too.
func (trust *Trust) openTombstone(signed []byte) (t Tombstone, by *believed, err error) {
	o, err := trust.open(signed)
	if err != nil {
		return t, nil, fmt.Errorf("opening a tombstone: %w", err)
	}
	t, err = parseTombstone(o.text)
	if err == nil && t.Origin != trust.name {
		err = errTombstone
	}
	return t, o.by, err
}

func parseTombstone(text string) (t Tombstone, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 8 {
		return t, errTombstone
	}
	t.Origin = lines[0]
	before, ok1 := strings.CutPrefix(lines[3], "before ")
	years, ok2 := strings.CutPrefix(strings.TrimSuffix(lines[4], " years"), "kept ")
	name, ok3 := strings.CutPrefix(lines[5], "by ")
	at, ok4 := strings.CutPrefix(lines[6], "time ")
	t.By = name
	var errs [4]error
	t.Leaves, errs[0] = parseSpans(lines[2])
	t.Before, errs[1] = time.Parse(timeForm, before)
	t.Years, errs[2] = strconv.Atoi(years)
	t.Time, errs[3] = time.Parse(timeForm, at)
	if errors.Join(errs[:]...) != nil || !ok1 || !ok2 || !ok3 || !ok4 || t.text() != text {
		return Tombstone{}, errTombstone
	}
	return t, nil
}

// parseSpans reads what spans wrote.
func parseSpans(text string) (list []Span, err error) {
	text, ok := strings.CutPrefix(text, "{[")
	text, ok2 := strings.CutSuffix(text, ")}")
	if !ok || !ok2 {
		return nil, errTombstone
	}
	end := int64(-1)
	for part := range strings.SplitSeq(text, "),[") {
		from, to, _ := strings.Cut(part, ",")
		var s Span
		var err1, err2 error
		s.From, err1 = strconv.ParseInt(from, 10, 64)
		s.To, err2 = strconv.ParseInt(to, 10, 64)
		if err1 != nil || err2 != nil || s.From <= end || s.To <= s.From {
			return nil, errTombstone
		}
		end = s.To
		list = append(list, s)
	}
	return list, nil
}

// Spans returns the leaves, which are in order, as few spans.
func Spans(leaves []int64) (list []Span) {
	for _, n := range leaves {
		if last := len(list) - 1; last >= 0 && list[last].To == n {
			list[last].To++
			continue
		}
		list = append(list, Span{n, n + 1})
	}
	return list
}

// A removal is leaves whose entries a tombstone lets be missing.
type removal struct {
	Span
	before time.Time
}

// Tombstone takes in what an entry says of others that were removed: all are taken
// in before the first Leaf. leaf is that of the entry itself, -1 if it is none yet.
func (v *Verifier) Tombstone(leaf int64, id string, signed []byte) {
	t, by, err := v.trust.openTombstone(signed)
	if err != nil {
		v.tell(Fault{Unverified, leaf, id, fmt.Sprintf("entry %s is no tombstone of this log, signed by the key%s", id, strange(err))})
		return
	}
	if v.late(by, leaf) {
		v.tell(Fault{Unverified, leaf, id, fmt.Sprintf("the tombstone in entry %s is signed with a key that counted no longer", id)})
		return
	}
	if last := t.Leaves[len(t.Leaves)-1]; leaf >= 0 && last.To > leaf {
		v.tell(Fault{Unverified, leaf, id, fmt.Sprintf("the tombstone in entry %s is of leaves that came after it", id)})
		return
	}
	// A day is what calendars differ by about the end of a February.
	if t.Before.After(t.Time.AddDate(-LeastYears, 0, 1)) {
		v.tell(Fault{Early, leaf, id, fmt.Sprintf("the tombstone in entry %s removed what was not %d years old", id, LeastYears)})
	}
	for _, s := range t.Leaves {
		v.removals = append(v.removals, removal{s, t.Before})
	}
}

// late reports whether a leaf came when the key counted no longer: after the first
// checkpoint of such a time.
func (v *Verifier) late(by *believed, leaf int64) bool {
	if by.until.IsZero() {
		return false
	}
	for _, c := range v.checkpoints {
		if !c.Time.Before(by.until) {
			return leaf < 0 || leaf >= c.Size
		}
	}
	return false
}

// removedBy returns the removal of the leaf, nil if there is none.
func (v *Verifier) removedBy(leaf int64) *removal {
	if !v.sorted {
		slices.SortFunc(v.removals, func(a, b removal) int { return int(min(max(a.From-b.From, -1), 1)) })
		v.sorted = true
	}
	i, ok := slices.BinarySearchFunc(v.removals, leaf, func(r removal, n int64) int {
		switch {
		case r.To <= n:
			return -1
		case r.From > n:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &v.removals[i]
}

// removed holds a leaf whose entry is missing against the tombstones. It reports
// whether one lets it be.
func (v *Verifier) removed(l Leaf) bool {
	r := v.removedBy(l.Number)
	if r == nil {
		return false
	}
	v.removedCount++
	// It came after the checkpoint before it, so it cannot be older than that.
	if v.passed > 0 && v.checkpoints[v.passed-1].Time.After(r.before.Add(v.Late)) {
		v.tell(Fault{Early, l.Number, l.ID, fmt.Sprintf("entry %s, leaf %d, was removed as one of before %s, but came after the checkpoint of %s",
			l.ID, l.Number, show(r.before), show(v.checkpoints[v.passed-1].Time))})
	}
	return true
}
