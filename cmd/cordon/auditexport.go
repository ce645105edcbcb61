package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/audit/ledger"
)

// auditExportCommand gives an audit trail away, in a file that proves itself.
type auditExportCommand struct {
	Write  auditExportWriteCommand  `cmd:"" default:"withargs" help:"Write entries of an audit trail, with their proofs, to a file."`
	Verify auditExportVerifyCommand `cmd:"" help:"Say what such a file proves, without any server."`
}

type auditExportWriteCommand struct {
	systemFlags
	From    string `placeholder:"TIME" help:"Entries of this time and after: 2026-01 or 2026-01-31T08:00:00Z."`
	To      string `placeholder:"TIME" help:"Entries of this time and before."`
	Patient string `placeholder:"ID" help:"Entries about this patient."`
	User    string `placeholder:"WHO" help:"Entries of this user, app or login: Practitioner/7."`
	Request string `placeholder:"ID" help:"Entries of the request with this X-Request-Id."`
	Why     string `required:"" help:"Why it is given away. It is in the file, and in the trail."`
	Out     string `required:"" placeholder:"FILE" help:"The file, which must not be there."`
}

// Run writes the file page by page, and says how much there is in it.
func (x *auditExportWriteCommand) Run(ctx context.Context, c console) error {
	s, err := x.open(ctx, "auditor", "system/AuditEvent.rs")
	if err != nil {
		return err
	}
	out, err := os.OpenFile(x.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing an export: %w", err)
	}
	pages, err := x.pages(ctx, s, out)
	if err = cmp.Or(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(x.Out))
	}
	_, err = fmt.Fprintf(c.out, "%s: %d pages\n", x.Out, pages)
	return err
}

func (x *auditExportWriteCommand) pages(ctx context.Context, s *system, out io.Writer) (n int, err error) {
	query := url.Values{"why": {x.Why}}
	for name, value := range map[string]string{"start": x.From, "end": x.To, "patient": x.Patient, "agent": x.User, "request": x.Request} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for next := s.base + "/AuditEvent/$log-export?" + query.Encode(); next != ""; n++ {
		var lines []byte
		if lines, next, err = s.exportPage(ctx, next); err != nil {
			return n, err
		}
		if _, err := out.Write(lines); err != nil {
			return n, fmt.Errorf("writing an export: %w", err)
		}
	}
	return n, nil
}

// maxExportPage bounds the answer with a page of an export, in bytes.
const maxExportPage = 256 << 20

// exportPage asks for a page. The next one has to be at the same server, which gets
// the token.
func (s *system) exportPage(ctx context.Context, at string) (lines []byte, next string, err error) {
	if !strings.HasPrefix(at, s.base+"/") {
		return nil, "", errors.New("the next page is at another server")
	}
	resp, err := s.ask(ctx, http.MethodGet, at, nil, http.StatusOK)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	var page struct {
		Parameter []struct {
			Name  string `json:"name"`
			Lines []byte `json:"valueBase64Binary"`
			Next  string `json:"valueUri"`
		} `json:"parameter"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxExportPage)).Decode(&page); err != nil {
		return nil, "", fmt.Errorf("reading a page of an export: %w", err)
	}
	for _, p := range page.Parameter {
		switch p.Name {
		case "lines":
			lines = p.Lines
		case "next":
			next = p.Next
		}
	}
	return lines, next, nil
}

type auditExportVerifyCommand struct {
	File      string   `arg:"" help:"The file."`
	Key       string   `required:"" placeholder:"KEY" help:"Public key of the log, as 'cordon audit key' printed it when the tenant was made."`
	Custodian []string `placeholder:"KEY" help:"Public key of somebody who had the file. May be given again."`
}

// Run prints what is wrong with the file, if anything is, and what it proves.
func (v *auditExportVerifyCommand) Run(c console) error {
	key, err := ledger.ParseKey(v.Key)
	if err != nil {
		return err
	}
	var custodians []ledger.Key
	for _, text := range v.Custodian {
		k, err := ledger.ParseKey(text)
		if err != nil {
			return err
		}
		custodians = append(custodians, k)
	}
	text, err := os.ReadFile(v.File)
	if err != nil {
		return fmt.Errorf("reading an export: %w", err)
	}
	faults := 0
	r := ledger.CheckExport(text, key, custodians, func(f string) {
		faults++
		fmt.Fprintln(c.out, f)
	})
	if faults > 0 {
		return fmt.Errorf("%d faults: the export is not as it was signed", faults)
	}
	return printLines(c, exportProves(key.Name(), r))
}

// exportProves says what is proven, and what is not.
func exportProves(log string, r ledger.ExportReport) []string {
	who := r.Asked.Client
	if r.Asked.User != "" {
		who += " for " + r.Asked.User
	}
	list := []string{
		fmt.Sprintf("%s: %d entries, which is all that the server found from %s to %s for %q", log, r.Entries, clock(r.Begun), clock(r.Ended), r.Asked.Query),
		fmt.Sprintf("asked for by %s: %s", who, r.Asked.Why),
		fmt.Sprintf("%d are proven to be in the log, as it was signed; what they read as the server says, signed with the key of the log", r.Proven),
	}
	if r.Unsigned > 0 {
		list = append(list, fmt.Sprintf("%d were in no checkpoint yet: the server alone says that they are there", r.Unsigned))
	}
	if r.Unreadable > 0 {
		list = append(list, fmt.Sprintf("%d could not be opened: they are named, and not as a server wrote them", r.Unreadable))
	}
	for _, h := range r.Custody {
		list = append(list, fmt.Sprintf("%s: from %s to %s: %s", clock(h.Time), h.From, h.To, h.Why))
	}
	return append(list, "the export is as it was signed")
}

// auditCustodyCommand keeps the chain of custody of an export.
type auditCustodyCommand struct {
	Add auditCustodyAddCommand `cmd:"" help:"Add to an export that you give it to somebody."`
}

type auditCustodyAddCommand struct {
	File   string `arg:"" help:"The export."`
	To     string `required:"" placeholder:"NAME" help:"Who gets it: 'court.example'. If they hand it on, it is the name of their key."`
	Why    string `required:"" help:"Why."`
	As     string `required:"" placeholder:"NAME" help:"Who gives it: 'clerk.example'."`
	AsFile string `required:"" placeholder:"FILE" help:"Private key of who gives it; it is made if there is none. Its public key is printed."`
}

// Run adds the record at the end of the file.
func (a *auditCustodyAddCommand) Run(c console) error {
	signer, err := keptSigner(c, a.As, a.AsFile)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(a.File)
	if err != nil {
		return fmt.Errorf("reading an export: %w", err)
	}
	added, err := ledger.AddCustody(text, a.To, a.Why, time.Now(), signer)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(a.File, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("writing an export: %w", err)
	}
	_, err = io.Copy(out, bytes.NewReader(added))
	return cmp.Or(err, out.Close())
}

// keptSigner returns the key of the name in the file, which is made if there is
// none: then its public half is printed.
func keptSigner(c console, name, file string) (ledger.Signer, error) {
	secret, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		private, public, err := ledger.GenerateSigner(name)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, []byte(private), 0o600); err != nil {
			return nil, fmt.Errorf("keeping a key: %w", err)
		}
		fmt.Fprintf(c.out, "key of %s: %s\n", name, public)
		return ledger.ParseSigner(private)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	signer, err := ledger.ParseSigner(string(secret))
	if err == nil && signer.Name() != name {
		err = fmt.Errorf("the key is that of %s", signer.Name())
	}
	return signer, err
}
