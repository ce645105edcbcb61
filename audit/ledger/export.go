package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// An export of an audit trail is a file of lines, each a JSON object. Of each page
// that a server gave there is a checkpoint, the entries, and what the server says of
// them, signed with the log's key: who asked for what, why and when. What it says
// names what it said of the page before. After the last page are custody records:
// who gave the file to whom, each signed by who gave it.

// An Asked is who asked for an export, for what, and why.
type Asked struct {
	Client string `json:"client"`
	User   string `json:"user,omitempty"`
	Why    string `json:"why"`
	Query  string `json:"query"`
}

// An ExportEntry is an entry of an export.
type ExportEntry struct {
	ID string `json:"id"`
	// Record is what the log hashed of it, and Hashes prove that to be a leaf of the
	// checkpoint of the page. Without them it is no leaf of it yet.
	Record string   `json:"record,omitempty"`
	Hashes [][]byte `json:"hashes,omitempty"`
	// Event is the AuditEvent that it reads as. Without one it cannot be opened.
	Event json.RawMessage `json:"event,omitempty"`
}

// A Page is what a server says of a page of an export.
type Page struct {
	Origin  string
	Number  int       // counted from 1
	After   tlog.Hash // of the statement about the page before; zero for the first
	Content tlog.Hash // of the lines
	Entries int
	Last    bool
	Asked   Asked
	Time    time.Time
}

func (p Page) text() string {
	asked, err := json.Marshal(p.Asked)
	if err != nil {
		panic(err) // strings always marshal
	}
	more := "more"
	if p.Last {
		more = "end"
	}
	return fmt.Sprintf("%s\naudit export\npage %d\nafter %s\ncontent %s\nentries %d\n%s\nasked %s\ntime %s\n",
		p.Origin, p.Number, p.After, p.Content, p.Entries, more, asked, p.Time.UTC().Format(timeForm))
}

// errPage says that a text is no statement about a page.
var errPage = errors.New("ledger: malformed statement about a page of an export")

// openPage returns the statement in a note that is signed by the key. There is one
// way to write each.
func (t *Trust) openPage(signed []byte) (p Page, err error) {
	o, err := t.open(signed)
	if err == nil {
		err = spelled(o.signatures)
	}
	if err != nil {
		return p, fmt.Errorf("opening a statement about a page: %w", err)
	}
	f, ok := fields(o.text, "", "audit export", "page ", "after ", "content ", "entries ", "", "asked ", "time ")
	if !ok || f[0] != t.name {
		return p, errPage
	}
	p = Page{Origin: f[0], Last: f[6] == "end"}
	var errs [6]error
	p.Number, errs[0] = strconv.Atoi(f[2])
	p.After, errs[1] = tlog.ParseHash(f[3])
	p.Content, errs[2] = tlog.ParseHash(f[4])
	p.Entries, errs[3] = strconv.Atoi(f[5])
	errs[4] = json.Unmarshal([]byte(f[7]), &p.Asked)
	p.Time, errs[5] = time.Parse(timeForm, f[8])
	if errors.Join(errs[:]...) != nil || p.text() != o.text {
		return Page{}, errPage
	}
	return p, nil
}

// openOne opens a note with one signature, which is spelled in the one way that
// there is.
func openOne(signed []byte, by []Key) (*note.Note, error) {
	list := make([]note.Verifier, len(by))
	for i, k := range by {
		list[i] = k
	}
	n, err := note.Open(signed, note.VerifierList(list...))
	if err != nil {
		return nil, err
	}
	return n, spelled(slices.Concat(n.Sigs, n.UnverifiedSigs))
}

// spelled returns an error unless there is one signature, spelled in the one way that
// there is.
func spelled(list []note.Signature) error {
	if len(list) != 1 {
		return errors.New("ledger: the note has other signatures than one")
	}
	_, err := base64.StdEncoding.Strict().DecodeString(list[0].Base64)
	return err
}

// fields returns the lines of a text without the prefixes, of which each has one.
func fields(text string, prefixes ...string) (list []string, ok bool) {
	text, ok = strings.CutSuffix(text, "\n")
	lines := strings.Split(text, "\n")
	if !ok || len(lines) != len(prefixes) {
		return nil, false
	}
	for i, p := range prefixes {
		if lines[i], ok = strings.CutPrefix(lines[i], p); !ok {
			return nil, false
		}
	}
	return lines, true
}

// A Custody says that somebody gave an export to somebody.
type Custody struct {
	Origin string
	Of     tlog.Hash // of all lines before
	From   string    // who signs it
	To     string
	Why    string
	Time   time.Time
}

func (c Custody) text() string {
	return fmt.Sprintf("%s\naudit export custody\nof %s\nfrom %s\nto %s\nwhy %s\ntime %s\n", c.Origin, c.Of, c.From, c.To, c.Why, c.Time.UTC().Format(timeForm))
}

// check returns what is wrong with the words of c.
func (c Custody) check() error {
	for _, s := range []string{c.From, c.To, c.Why} {
		if strings.TrimSpace(s) == "" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
			return errors.New("ledger: a custody record has to say who gave the file to whom, and why, each in a line")
		}
	}
	return nil
}

// errCustody says that a text is no custody record.
var errCustody = errors.New("ledger: malformed custody record")

// parseCustody reads the text of a note.
func parseCustody(text string) (c Custody, err error) {
	f, ok := fields(text, "", "audit export custody", "of ", "from ", "to ", "why ", "time ")
	if !ok {
		return c, errCustody
	}
	c = Custody{Origin: f[0], From: f[3], To: f[4], Why: f[5]}
	var err2 error
	c.Of, err = tlog.ParseHash(f[2])
	c.Time, err2 = time.Parse(timeForm, f[6])
	if err != nil || err2 != nil || c.text() != text {
		return Custody{}, errCustody
	}
	return c, nil
}

// A line of an export is one of these.
type line struct {
	Checkpoint string       `json:"checkpoint,omitempty"`
	Entry      *ExportEntry `json:"entry,omitempty"`
	Page       string       `json:"page,omitempty"`
	Custody    string       `json:"custody,omitempty"`
}

func (l line) append(b []byte) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		panic(err) // of strings, bytes and the JSON of an event
	}
	return append(b, out.Bytes()...)
}

// WritePage returns the lines of a page of an export, and the hash by which the
// statement about the next page names the one about this. p lacks what is known of
// its content.
func WritePage(p Page, checkpoint []byte, entries []ExportEntry, by Signer) (text []byte, said tlog.Hash, err error) {
	text = line{Checkpoint: string(checkpoint)}.append(nil)
	for _, e := range entries {
		text = line{Entry: &e}.append(text)
	}
	p.Content, p.Entries = sha256.Sum256(text), len(entries)
	signed, err := SignText(p.text(), by)
	if err != nil {
		return nil, said, fmt.Errorf("signing a page of an export: %w", err)
	}
	return line{Page: string(signed)}.append(text), sha256.Sum256(signed), nil
}

// AddCustody returns the line that says that by gave the export to somebody.
func AddCustody(export []byte, to, why string, at time.Time, by note.Signer) ([]byte, error) {
	var first line
	head, _, _ := bytes.Cut(export, []byte("\n"))
	if json.Unmarshal(head, &first) != nil || first.Checkpoint == "" || !bytes.HasSuffix(export, []byte("\n")) {
		return nil, errors.New("ledger: the file is no export of an audit trail")
	}
	origin, _, _ := strings.Cut(first.Checkpoint, "\n")
	c := Custody{Origin: origin, Of: sha256.Sum256(export), From: by.Name(), To: to, Why: why, Time: at.UTC().Truncate(time.Millisecond)}
	if err := c.check(); err != nil {
		return nil, err
	}
	signed, err := note.Sign(&note.Note{Text: c.text()}, by)
	if err != nil {
		return nil, fmt.Errorf("signing a custody record: %w", err)
	}
	return line{Custody: string(signed)}.append(nil), nil
}

// An ExportReport is what an export proves.
type ExportReport struct {
	Asked   Asked
	Pages   int
	Entries int
	// Proven are leaves of the log; Unsigned the server alone says that they are
	// there, and Unreadable it could not open.
	Proven, Unsigned, Unreadable int
	// Begun and Ended are when the first and the last page were made.
	Begun, Ended time.Time
	Custody      []Custody
}

// CheckExport holds an export against the public key of its log and those of who
// had it in custody. tell is told of each fault.
func CheckExport(text []byte, key Key, custodians []Key, tell func(string)) ExportReport {
	c := exportCheck{trust: NewTrust(key), custodians: custodians, tell: tell, seen: map[string]bool{}, text: text}
	for len(c.text) > c.at {
		end := bytes.IndexByte(text[c.at:], '\n')
		if end < 0 {
			c.fault("the file ends within a line")
			break
		}
		c.number++
		c.line(text[c.at : c.at+end+1])
		c.at += end + 1
	}
	switch {
	case c.from < c.at && !c.done:
		c.fault("entries at the end are of no page that the server signed")
	case !c.done:
		c.fault("the last page is missing")
	}
	return c.report
}

type exportCheck struct {
	trust      *Trust
	custodians []Key
	tell       func(string)
	report     ExportReport

	text     []byte
	at, from int // where the line, and the page, begin
	number   int // of the line
	pageHas  []ExportEntry
	signed   *Checkpoint // of the page
	said     tlog.Hash   // the statement about the page before
	done     bool
	seen     map[string]bool
	holder   string
}

func (c *exportCheck) fault(format string, args ...any) {
	c.tell(fmt.Sprintf("line %d: ", c.number) + fmt.Sprintf(format, args...))
}

func (c *exportCheck) line(text []byte) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		c.fault("this is no line of an export")
		return
	}
	switch {
	case l.Custody != "" && c.done:
		c.custody(text, l)
	case c.done:
		c.fault("the server said that there is no more")
	case l.Page != "":
		c.page(text, l)
	case l.Entry != nil:
		c.pageHas = append(c.pageHas, *l.Entry)
	case l.Checkpoint != "" && c.from == c.at:
		cp, err := c.trust.Open([]byte(l.Checkpoint))
		if err != nil {
			c.fault("the checkpoint is not one of this log, signed by the key")
			return
		}
		c.signed = &cp
	default:
		c.fault("this is no line of an export")
	}
}

// page holds the entries of a page against what the server said of them.
func (c *exportCheck) page(text []byte, l line) {
	p, err := c.trust.openPage([]byte(l.Page))
	switch {
	case err != nil:
		c.fault("what is said of the page is not signed by the key")
	case !bytes.Equal(line{Page: l.Page}.append(nil), text):
		c.fault("the line was changed")
	case p.Content != sha256.Sum256(c.text[c.from:c.at]) || p.Entries != len(c.pageHas):
		c.fault("the entries of page %d are not those that the server signed: some were changed, removed, added or moved", p.Number)
	case p.Number != c.report.Pages+1 || p.After != c.said:
		c.fault("page %d does not follow page %d: pages were removed, added or moved", p.Number, c.report.Pages)
	case c.report.Pages > 0 && p.Asked != c.report.Asked:
		c.fault("page %d is of another export", p.Number)
	default:
		c.entries()
	}
	if c.report.Pages == 0 {
		c.report.Asked, c.report.Begun = p.Asked, p.Time
	}
	c.report.Pages++
	c.report.Ended, c.done, c.said = p.Time, p.Last, sha256.Sum256([]byte(l.Page))
	c.pageHas, c.signed, c.from = nil, nil, c.at+len(text)
}

// entries holds each entry of a page against the checkpoint.
func (c *exportCheck) entries() {
	for _, e := range c.pageHas {
		c.report.Entries++
		if c.seen[e.ID] {
			c.fault("entry %s is there twice", e.ID)
		}
		c.seen[e.ID] = true
		if e.Event == nil {
			c.report.Unreadable++
		}
		if e.Record == "" {
			c.report.Unsigned++
			continue
		}
		if why := c.entry(e); why != "" {
			c.fault("entry %s %s", e.ID, why)
			continue
		}
		c.report.Proven++
	}
}

// entry returns what is wrong with an entry, "" if nothing is.
func (c *exportCheck) entry(e ExportEntry) string {
	if c.signed == nil {
		return "has no checkpoint to be proven by"
	}
	var r struct {
		Log      string    `json:"log"`
		Leaf     *int64    `json:"leaf"`
		Seq      int64     `json:"seq"`
		Recorded time.Time `json:"recorded"`
		Outcome  int       `json:"outcome"`
	}
	if json.Unmarshal([]byte(e.Record), &r) != nil || r.Leaf == nil {
		return "has a record that is none"
	}
	proof := make(tlog.RecordProof, len(e.Hashes))
	for i, h := range e.Hashes {
		if len(h) != tlog.HashSize {
			return "has a proof that is none"
		}
		proof[i] = tlog.Hash(h)
	}
	if r.Log != c.signed.Origin || *r.Leaf < 0 || *r.Leaf >= c.signed.Size ||
		tlog.CheckRecord(proof, c.signed.Size, c.signed.Root, *r.Leaf, tlog.RecordHash([]byte(e.Record))) != nil {
		return "is not in the log of the checkpoint"
	}
	if e.ID != fmt.Sprintf("%016x", uint64(r.Seq)) {
		return "has the record of another"
	}
	if e.Event == nil {
		return ""
	}
	var event struct {
		ID       string    `json:"id"`
		Recorded time.Time `json:"recorded"`
		Outcome  string    `json:"outcome"`
	}
	if json.Unmarshal(e.Event, &event) != nil || event.ID != e.ID || !event.Recorded.Equal(r.Recorded.Truncate(time.Millisecond)) || event.Outcome != strconv.Itoa(r.Outcome) {
		return "does not read as its record says"
	}
	return ""
}

// custody holds a custody record against what is before it.
func (c *exportCheck) custody(text []byte, l line) {
	n, err := openOne([]byte(l.Custody), c.custodians)
	if err != nil {
		c.fault("the custody record is not signed by a key that is given")
		return
	}
	r, err := parseCustody(n.Text)
	switch {
	case err != nil || r.check() != nil || r.Origin != c.trust.name || n.Sigs[0].Name != r.From || !bytes.Equal(line{Custody: l.Custody}.append(nil), text):
		c.fault("this is no custody record of this export")
	case r.Of != sha256.Sum256(c.text[:c.at]):
		c.fault("the custody record of %s is about other lines than those before it", r.From)
	case c.holder != "" && r.From != c.holder:
		c.fault("%s gave away what %s had", r.From, c.holder)
	}
	c.holder = r.To
	c.report.Custody = append(c.report.Custody, r)
}
