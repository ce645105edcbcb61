package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/cmd/cordon/demo"
	"github.com/cordon-fhir/cordon/smart"
)

// demoTenants are the tenants of `cordon dev --demo`: every partition mode,
// and two of those whose tenants share a database.
var demoTenants = []newTenant{
	{Slug: "harbor", Name: "Harbor Family Clinic", Mode: "shared"},
	{Slug: "lakeside", Name: "Lakeside Pediatrics", Mode: "shared"},
	{Slug: "summit", Name: "Summit Regional Hospital", Mode: "schema"},
	{Slug: "orchard", Name: "Orchard Health Network", Mode: "schema"},
	{Slug: "citadel", Name: "Citadel Medical Center", Mode: "database"},
}

// demoClients are the clients of each demo tenant. Those with a user or a
// patient act in that launch context without a login.
var demoClients = []devClient{
	{ID: "backend", Scopes: []string{"system/*.cruds"}},
	{ID: "reader", Scopes: []string{"system/*.rs"}},
	{ID: "clinician", Scopes: []string{"user/*.cruds"}, User: "Practitioner/dr1"},
	{ID: "patient-app", Scopes: []string{"patient/*.rs"}, User: "Patient/p1", Patient: "p1"},
	{ID: "auditor", Scopes: []string{"system/AuditEvent.rs"}},
	demoApp,
	// As whom `cordon breakout` tries what the others cannot.
	{ID: "writer", Scopes: []string{"system/*.cud"}},
	{ID: "finder", Scopes: []string{"system/Observation.cus", "system/Patient.cus"}},
	{ID: "lab", Scopes: []string{"system/Observation.cruds?category=laboratory"}},
	{ID: "billing", Scopes: []string{"system/Coverage.rs", "system/Claim.rs"}},
	{ID: "colleague", Scopes: []string{"user/*.cruds"}, User: "Practitioner/dr2"},
	{ID: "patient-diary", Scopes: []string{"patient/*.cruds"}, User: "Patient/p1", Patient: "p1"},
}

// demoApp is the app of each demo tenant that users log in to. It is public, as
// an app in a browser is: deploy/demo-app, if somebody serves it at its address.
var demoApp = devClient{
	ID: "demo-app", Name: "Demo app", Method: smart.PublicClient,
	RedirectURI: "http://127.0.0.1:8083/callback", LaunchURL: "http://127.0.0.1:8083/launch",
	Scopes: append(slices.Clone(smart.LaunchWords), "patient/*.cruds", "user/*.cruds"),
}

// demoUsers can log in at each demo tenant.
var demoUsers = []devUser{
	{Login: "doctor", User: "Practitioner/dr1", Person: demoStaff("doctor", "physician")},
	{Login: "nurse", User: "Practitioner/dr4", Person: onShift(demoStaff("nurse"))},
	{Login: "billing", User: "Practitioner/billing1", Person: demoStaff("billing")},
	{Login: "officer", User: "Practitioner/officer1", Person: demoStaff("privacy")},
	{Login: "patient", User: "Patient/p1", Person: smart.Person{Roles: []string{"patient"}}},
}

// demoStaff is who works in the roles at the demo's clinic.
func demoStaff(roles ...string) smart.Person {
	return smart.Person{Roles: roles, Organizations: []string{"org1"}, Facilities: []string{"loc1"}, Location: "loc1"}
}

// onShift is p in a shift that begins now.
func onShift(p smart.Person) smart.Person {
	now := time.Now()
	p.ShiftStart, p.ShiftEnd = now.Unix(), now.Add(12*time.Hour).Unix()
	return p
}

// demoOrder says where a client stands among the demo's; one that is not of
// the demo comes after them.
func demoOrder(c devClient) int {
	i := slices.IndexFunc(demoClients, func(d devClient) bool { return d.ID == c.ID })
	if i < 0 {
		return len(demoClients)
	}
	return i
}

// demoSeed makes the records of the demo tenants the same everywhere.
const demoSeed = 1

// prepare makes the demo tenants, writes dev.json and says what to try. It
// does so as anyone would: through the control API and the FHIR API.
func (d *devCommand) prepare(ctx context.Context, server *devServer, c console) error {
	api, err := server.control()
	if err != nil {
		return err
	}
	if d.Demo {
		for _, t := range demoTenants {
			if err := d.prepareTenant(ctx, server, api, t, c.err); err != nil {
				return fmt.Errorf("making the demo tenant %s: %w", t.Slug, err)
			}
		}
	}
	tenants, err := api.tenants(ctx)
	if err != nil {
		return err
	}
	server.Tenants = []devTenant{}
	for _, t := range tenants {
		listed, err := d.Dir.tenant(server, t.Slug)
		if err != nil {
			return err
		}
		listed.Mode = t.Mode
		server.Tenants = append(server.Tenants, *listed)
	}
	if err := writeJSON(d.Dir.path("dev.json"), server); err != nil {
		return err
	}
	return d.welcome(c.out, server)
}

// prepareTenant makes a tenant, its clients and its records, as far as they
// are not there.
func (d *devCommand) prepareTenant(ctx context.Context, server *devServer, api *controlAPI, t newTenant, w io.Writer) error {
	if err := api.createTenant(ctx, t); err != nil {
		return err
	}
	registered, err := api.clients(ctx, t.Slug)
	if err != nil {
		return err
	}
	for _, c := range demoClients {
		if err := d.prepareClient(ctx, api, t.Slug, c, registered); err != nil {
			return err
		}
	}
	if err := d.prepareUsers(ctx, api, t.Slug); err != nil {
		return err
	}
	tenant, err := d.Dir.tenant(server, t.Slug)
	if err != nil {
		return err
	}
	loader, err := newLoader(tenant, 4)
	if err != nil {
		return err
	}
	defer loader.http.CloseIdleConnections()
	bundles := append([][]byte{demo.Staff()}, slices.Collect(demo.Bundles(demoSeed, d.Patients))...)
	// The last patient is sent when all the others are there, so its presence
	// says that nothing is missing.
	last := len(bundles) - 1
	there, err := loader.has(ctx, "Patient/"+demo.PatientID(d.Patients))
	if err != nil || there {
		return err
	}
	fmt.Fprintf(w, "loading the records of %d patients into %s\n", d.Patients, t.Slug)
	for _, part := range [][][]byte{bundles[:last], bundles[last:]} {
		report, err := loader.load(ctx, packed(part))
		if err != nil {
			return err
		}
		if len(report.faults) > 0 {
			return fmt.Errorf("the server refused demo records: %s", report.faults[0])
		}
	}
	return nil
}

// prepareClient registers a client, unless it is there and its key is here.
func (d *devCommand) prepareClient(ctx context.Context, api *controlAPI, slug string, c devClient, registered []clientRow) error {
	file := d.Dir.path("clients", slug, c.ID)
	kept := readJSON(file+".json", new(devClient))
	if kept == nil && c.Method == "" {
		_, kept = readKey(file + ".jwk")
	}
	if kept == nil && slices.ContainsFunc(registered, func(r clientRow) bool { return r.ID == c.ID }) {
		return nil
	}
	var key *jose.JSONWebKey
	if c.Method == "" {
		var err error
		if key, err = newKey(); err != nil {
			return err
		}
	}
	if _, err := api.putClient(ctx, slug, c, key); err != nil {
		return err
	}
	_, err := d.Dir.keep(slug, c, key)
	return err
}

// prepareUsers adds the demo's users, unless they are there and their passwords
// are here.
func (d *devCommand) prepareUsers(ctx context.Context, api *controlAPI, slug string) error {
	there, err := api.users(ctx, slug)
	if err != nil {
		return err
	}
	for _, u := range demoUsers {
		kept := readJSON(d.Dir.path("users", slug, u.Login+".json"), new(devUser))
		if kept == nil && slices.ContainsFunc(there, func(r userRow) bool { return r.Login == u.Login }) {
			continue
		}
		added, err := api.addUser(ctx, slug, userRow{Login: u.Login, User: u.User, Person: u.Person})
		if err != nil {
			return err
		}
		u.Password = added.Password
		if err := d.Dir.keepUser(slug, u); err != nil {
			return err
		}
	}
	return nil
}

// packed yields Bundles as parcels.
func packed(bundles [][]byte) iter.Seq2[parcel, error] {
	return func(yield func(parcel, error) bool) {
		for i, b := range bundles {
			p, err := pack(b)
			p.name = fmt.Sprintf("demo Bundle %d", i)
			if !yield(p, err) {
				return
			}
		}
	}
}

// has reports whether the tenant has the resource.
func (l *loader) has(ctx context.Context, ref string) (bool, error) {
	token, err := l.login.Token(ctx)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.base+"/"+ref, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := l.http.Do(req)
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK, nil
}

// welcome says what is there and what to try. Its lines work when pasted.
func (d *devCommand) welcome(w io.Writer, s *devServer) error {
	fmt.Fprintf(w, "\nCordon is ready. It keeps its data in %s and stops with Ctrl-C.\n\n", d.Dir)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  TENANT\tMODE\tFHIR BASE")
	for _, x := range s.Tenants {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", x.Slug, x.Mode, x.FHIRBase)
	}
	fmt.Fprintf(t, "  \t\t\n  control\t\t%s/control/v1\n  health\t\t%s/readyz\n", s.Control, s.Ops)
	if err := t.Flush(); err != nil {
		return err
	}
	if len(s.Tenants) == 0 {
		_, err := fmt.Fprintf(w, "\nThere is no tenant yet. In another shell:\n\n  %s tenant create --dir %s --mode shared SLUG\n\n", program(), d.Dir)
		return err
	}
	base := s.Tenants[0].FHIRBase
	lines := []string{
		fmt.Sprintf(`TOKEN=$(%s token --dir %s --tenant %s --scope 'system/*.cruds')`, program(), d.Dir, s.Tenants[0].Slug),
		fmt.Sprintf(`curl -H "Authorization: Bearer $TOKEN" %s/Patient/p1`, base),
		fmt.Sprintf(`curl -H "Authorization: Bearer $TOKEN" '%s/Observation?patient=p1&code=http://loinc.org|4548-4&_sort=-date&_count=3'`, base),
		fmt.Sprintf(`curl -H "Authorization: Bearer $TOKEN" '%s/AuditEvent?patient=Patient/p1&_count=3'`, base),
	}
	if d.Demo {
		lines = append(lines, fmt.Sprintf(`%s token --dir %s --tenant %s --scope 'user/*.rs' --user %s   # by a login`,
			program(), d.Dir, s.Tenants[0].Slug, demoUsers[0].Login))
	}
	if len(s.Tenants) > 1 {
		lines = append(lines, fmt.Sprintf(`curl -i -H "Authorization: Bearer $TOKEN" %s/Patient/p1   # the tenant next door: 403`, s.Tenants[1].FHIRBase))
	}
	_, err := fmt.Fprintf(w, "\nTry, in another shell:\n\n  %s\n\n", strings.Join(lines, "\n  "))
	return err
}

// program returns how this program was called.
func program() string { return os.Args[0] }
