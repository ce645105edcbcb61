package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/control"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/rest"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/limit"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/launch"
	"github.com/cordon-fhir/cordon/smart/outside"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/blob"
	"github.com/cordon-fhir/cordon/subscriptions"
	"github.com/cordon-fhir/cordon/tenant"
)

// A dataPlane serves FHIR and tokens.
type dataPlane struct {
	registry *store.Registry
	db       *store.DB
	ledger   *store.Ledger
	handler  http.Handler
	stop     func() // ends the work beside the requests
}

type dataPlaneConfig struct {
	registryURL, databaseURL, auditURL string
	// logURL and logRegistryURL are for the role of the audit logs.
	logURL, logRegistryURL string
	// vault is where their checkpoints are kept, if there is one.
	vault ledger.Vault

	kms      keys.KMS
	public   publicURL
	region   string         // "" serves tenants of every region
	proxies  []netip.Prefix // that may say for whom they speak
	origins  []string       // of pages that may call
	networks networkFlags
	// keyAge is how old a key may be that signs tokens; 0 is keyAge.
	keyAge time.Duration
	files  store.FilesConfig
	// objects reads sources of imports; nil reads none.
	objects *blob.Reader
	turns   int // of a tenant among others; 0 is the default
	ops     *ops
	log     *oplog.Logger
}

// keyAge is how old a key may be that signs tokens, if nobody says otherwise.
const keyAge = 90 * 24 * time.Hour

// openDataPlane opens the databases and puts the API together. It fails if the
// database would not hold what the server promises.
func openDataPlane(ctx context.Context, cfg dataPlaneConfig) (*dataPlane, error) {
	if os.Getenv("GOGC") == "" {
		// What a request leaves behind is small against what a server has:
		// collecting it less often gives some of the CPU back.
		debug.SetGCPercent(150)
	}
	registry, err := store.OpenRegistry(ctx, cfg.registryURL, cfg.kms)
	if err != nil {
		return nil, err
	}
	p := &dataPlane{registry: registry}
	tenants := tenant.NewRegistry(registry)
	keyring := keys.NewKeyring(registry, cfg.kms)
	keyring.Failed = func(id tenant.ID) {
		if err := registry.TellKeysFailed(id); err != nil {
			cfg.log.Error("telling that the keys of a tenant could not be opened", oplog.Cause(err))
		}
	}
	limiter := limit.New(limit.Config{Turns: cfg.turns})
	watcher, err := alert.New(alert.Config{Keeper: registry, Limit: limiter, Count: cfg.ops.sighted, Log: cfg.log})
	if err != nil {
		p.close()
		return nil, err
	}
	p.db, err = store.Open(ctx, store.Config{
		DatabaseURL: cfg.databaseURL, AuditURL: cfg.auditURL,
		Keys: keyring, Platform: registry, Packages: registry, Base: cfg.public.fhir, Watch: watcher, Files: cfg.files, Log: cfg.log,
	})
	if err != nil {
		p.close()
		return nil, err
	}
	if p.ledger, err = openLedger(cfg, registry, keyring); err != nil {
		p.close()
		return nil, err
	}
	issuers := outside.New(outside.Config{Record: registry, Private: cfg.networks.IdentityNetworks})
	verifier, err := smart.NewVerifier(smart.Config{
		Tenants: tenants, Keys: keyring, Base: cfg.public.fhir, Issuer: cfg.public.issuer,
		Policies: registry, Clients: registry, Revocations: registry, Glasses: registry, Outside: issuers, IsAdmin: control.IsOperatorToken, Alert: watcher.Alert,
	})
	if err != nil {
		p.close()
		return nil, err
	}
	address := func(r *http.Request) string { return rest.Address(cfg.proxies, r) }
	auth, err := launch.New(launch.Config{
		Clients: registry, Tenants: tenants, Keys: keyring, Region: cfg.region, Limit: limiter, Address: address, LoginFailed: watcher.LoginFailed,
		Base: cfg.public.fhir, Issuer: cfg.public.issuer, Record: p.db.Record, Log: cfg.log, Alert: watcher.Alert,
		Registry: registry, DB: p.db, Verifier: verifier, Outside: issuers, IdentityNetworks: cfg.networks.IdentityNetworks, ClientNetworks: cfg.networks.ClientNetworks,
	})
	if err != nil {
		p.close()
		return nil, err
	}
	api := rest.New(rest.Config{
		DB: p.db, Verifier: verifier, Tenants: tenants,
		Base: cfg.public.fhir, SmartConfiguration: auth.Configuration,
		Limit: limiter, Region: cfg.region, TrustedProxies: cfg.proxies, Origins: cfg.origins, AppOrigins: registry.AppOrigins, TerminologyNetworks: cfg.networks.TerminologyNetworks, ImportNetworks: cfg.networks.ImportNetworks, ImportObjects: cfg.objects,
		Version: version(), Log: cfg.log, Alert: watcher.Alert, Observe: cfg.ops.observe(tenants),
	})
	login := limitURL(p.db, limiter, address, auth)
	p.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// No http.ServeMux: it answers odd paths itself, with a redirection
		// that nobody audits.
		if strings.HasPrefix(r.URL.Path, "/auth/") {
			login.ServeHTTP(w, r)
		} else {
			api.ServeHTTP(w, r)
		}
	})
	indexer := &store.Indexer{DB: p.db, Tenants: lookedAfter(registry, tenants, cfg.region),
		Requests: registry.IndexRequests, Report: registry.ReportIndex, Log: cfg.log}
	inquirer := &store.Inquirer{DB: p.db, Registry: registry, Tenants: lookedAfter(registry, tenants, cfg.region), Log: cfg.log}
	sender := &alert.Sender{Queue: registry, Region: cfg.region, Private: cfg.networks.AlertNetworks, Count: cfg.ops.told, Log: cfg.log}
	ends := &store.GlassEnds{DB: p.db, Tenants: lookedAfter(registry, tenants, cfg.region), Log: cfg.log}
	sequencer := &store.Sequencer{Ledger: p.ledger, Tenants: lookedAfter(registry, tenants, cfg.region), Tampered: watcher.Tampered}
	sweeper := &store.Sweeper{Ledger: p.ledger, Tenants: lookedAfter(registry, tenants, cfg.region)}
	purger := &store.Purger{DB: p.db, Registry: registry, Tenants: lookedAfter(registry, tenants, cfg.region), Log: cfg.log}
	keeper := &store.KeyKeeper{Registry: registry, Tenants: lookedAfter(registry, tenants, cfg.region), Age: cmp.Or(cfg.keyAge, keyAge), Log: cfg.log}
	teller := &subscriptions.Worker{DB: p.db, Verifier: verifier, Tenants: lookedAfter(registry, tenants, cfg.region), Base: cfg.public.fhir, Networks: cfg.networks.SubscriptionNetworks, Log: cfg.log}
	p.work(teller.Run, sequencer.Run, sweeper.Run, purger.Run, keeper.Run, indexer.Run, watcher.Run, sender.Run, inquirer.Run, ends.Run, api.TellRefusals, func(ctx context.Context) { api.Work(ctx, lookedAfter(registry, tenants, cfg.region)) })
	cfg.ops.check("registry", registry.Ping)
	cfg.ops.check("clock", registry.CheckClock)
	cfg.ops.check("database", p.db.Ping)
	return p, nil
}

// openLedger opens what makes logs of the audit trails.
func openLedger(cfg dataPlaneConfig, registry *store.Registry, keyring *keys.Keyring) (*store.Ledger, error) {
	c := store.LedgerConfig{DatabaseURL: cfg.logURL, RegistryURL: cfg.logRegistryURL, Registry: registry, Keys: keyring, Vault: cfg.vault, Log: cfg.log}
	if cfg.vault == nil {
		cfg.log.Warn("the checkpoints of the audit logs are kept in the databases alone; set --checkpoints")
	}
	return store.OpenLedger(c)
}

// work begins the work beside the requests.
func (p *dataPlane) work(works ...func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, w := range works {
		all.Go(func() { w(ctx) })
	}
	p.stop = func() {
		cancel()
		all.Wait()
	}
}

// lookedAfter returns the tenants that a server of the region looks after.
func lookedAfter(registry *store.Registry, tenants *tenant.Registry, region string) func(context.Context) ([]*tenant.Tenant, error) {
	type lookedUp struct {
		tenant *tenant.Tenant
		until  time.Time
	}
	known := map[string]lookedUp{}
	return func(ctx context.Context) ([]*tenant.Tenant, error) {
		rows, err := registry.Tenants(ctx)
		if err != nil {
			return nil, err
		}
		still := map[string]lookedUp{}
		var list []*tenant.Tenant
		for _, row := range rows {
			if row.Status != string(tenant.Active) || region != "" && row.Region != region {
				continue
			}
			a := known[row.Slug]
			if time.Now().After(a.until) {
				if a.tenant, err = tenants.Tenant(ctx, row.Slug); err != nil {
					continue // its clients learn of it; the others are not held up
				}
				a.until = time.Now().Add(tenantFor)
			}
			still[row.Slug] = a
			list = append(list, a.tenant)
		}
		known = still
		return list, nil
	}
}

// tenantFor is how long what is known of a tenant does for the work beside the
// requests: about so long after a package is installed its search parameters are
// taken up.
const tenantFor = 6 * time.Second

// close waits for running transactions and closes the databases.
func (p *dataPlane) close() {
	if p.stop != nil {
		p.stop()
	}
	if p.ledger != nil {
		p.ledger.Close()
	}
	if p.db != nil {
		p.db.Close()
	}
	p.registry.Close()
}

// limitURL answers 414 to URLs that are longer than the API takes, before
// anything reads them. Nobody proves to be anyone by a request for a token that
// is not read, so the entry goes to the trail of the platform.
func limitURL(db *store.DB, limiter *limit.Limiter, address func(*http.Request) string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.RequestURI) <= rest.MaxURL {
			next.ServeHTTP(w, r)
			return
		}
		status, id, from := http.StatusRequestURITooLong, rand.Text(), address(r)
		if limiter.Stranger(from) == 0 || limiter.Refused(from).Write {
			err := db.Record(r.Context(), nil, audit.Entry{
				Interaction: fhir.Operation, Outcome: audit.MinorFailure, Status: status, Reason: "the URL is too long",
				Origin: audit.Origin{RequestID: id, Address: from, Method: "?"},
			})
			if err != nil {
				status = http.StatusServiceUnavailable
			}
		}
		limiter.Failed(from)
		rest.Guard(w.Header(), id)
		w.Header().Set("Content-Type", "application/fhir+json; charset=utf-8")
		w.Header().Set("Connection", "close")
		w.WriteHeader(status)
		// A client that has gone needs no answer.
		_, _ = io.WriteString(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"too-long","diagnostics":"the URL is too long"}]}`)
	})
}
