package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// An Inquiry is what an operator asks of the records of a tenant. The control
// plane, which sees none, leaves it in the registry; an Inquirer of a server
// answers it there. It is one of Access and DryRun.
type Inquiry struct {
	Operator string          `json:"operator"`
	Request  string          `json:"request"` // id of the operator's request
	Access   *AccessQuestion `json:"access,omitzero"`
	DryRun   *DryRunQuestion `json:"dryRun,omitzero"`
}

// An InquiryAnswer is the answer to one.
type InquiryAnswer struct {
	Access *Explanation `json:"access,omitzero"`
	DryRun *DryRun      `json:"dryRun,omitzero"`
	// Code and Words are those of a *fhir.Error.
	Code  fhir.IssueCode `json:"code,omitzero"`
	Words string         `json:"words,omitzero"`
}

// questionAD and answerAD bind what is sealed to whose it is.
func questionAD(tenant int32) []byte { return fmt.Appendf(nil, "cordon|inquiry|%d", tenant) }
func answerAD(tenant int32, id int64) []byte {
	return fmt.Appendf(nil, "cordon|inquiry|%d|%d", tenant, id)
}

// Inquire asks the servers and waits for the answer, until ctx is done. The error
// is tenant.ErrUnknown if there is no such tenant, or what the server refused the
// question with; with code Transient no server has answered.
func (m *Migrator) Inquire(ctx context.Context, slug string, q Inquiry) (InquiryAnswer, error) {
	row, err := m.TenantBySlug(ctx, slug)
	if err != nil {
		return InquiryAnswer{}, err
	}
	plain, err := json.Marshal(q)
	if err != nil {
		return InquiryAnswer{}, fmt.Errorf("asking about %s: %w", slug, err)
	}
	sealed, err := keys.Wrap(m.cfg.KMS, m.cfg.KEK, plain, questionAD(row.ID))
	if err != nil {
		return InquiryAnswer{}, fmt.Errorf("asking about %s: %w", slug, err)
	}
	var id int64
	if err := m.registry.QueryRowContext(ctx, `
		INSERT INTO registry.inquiry (tenant_id, kek, question) VALUES ($1, $2, $3)
		RETURNING id`, row.ID, m.cfg.KEK, sealed).Scan(&id); err != nil {
		return InquiryAnswer{}, fmt.Errorf("asking about %s: %w", slug, err)
	}
	defer func() { // if it fails the servers remove it
		_, _ = m.registry.ExecContext(context.WithoutCancel(ctx), `DELETE FROM registry.inquiry WHERE id = $1`, id)
	}()
	return m.answer(ctx, row.ID, id)
}

// answerEvery is how often the control plane looks for an answer.
const answerEvery = 100 * time.Millisecond

// answer waits for the answer to an inquiry.
func (m *Migrator) answer(ctx context.Context, tenant int32, id int64) (InquiryAnswer, error) {
	for {
		var kek string
		var sealed []byte
		err := m.registry.QueryRowContext(ctx, `SELECT kek, answer FROM registry.inquiry WHERE id = $1 AND answer IS NOT NULL`, id).Scan(&kek, &sealed)
		switch {
		case err == nil:
			plain, err := keys.Unwrap(m.cfg.KMS, kek, sealed, answerAD(tenant, id))
			if err != nil {
				return InquiryAnswer{}, fmt.Errorf("opening an answer: %w", err)
			}
			return readAnswer(plain)
		case ctx.Err() != nil:
			return InquiryAnswer{}, fhir.Errorf(fhir.Transient, "no server of the tenant has answered")
		case !errors.Is(err, sql.ErrNoRows):
			return InquiryAnswer{}, fmt.Errorf("waiting for an answer: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(answerEvery):
		}
	}
}

func readAnswer(plain []byte) (a InquiryAnswer, err error) {
	if err := json.Unmarshal(plain, &a); err != nil {
		return a, fmt.Errorf("reading an answer: %w", err)
	}
	if a.Code != "" {
		return a, fhir.Errorf(a.Code, "%s", a.Words)
	}
	return a, nil
}

// An Inquirer answers what operators ask of the tenants that a server serves.
type Inquirer struct {
	DB       *DB       // required
	Registry *Registry // required
	// Tenants returns the tenants to answer for. Required.
	Tenants func(context.Context) ([]*tenant.Tenant, error)
	// Every is how often it looks for questions. Default 500ms.
	Every time.Duration

	Log *oplog.Logger
}

// inquiryTimeout bounds the work on one question.
const inquiryTimeout = 30 * time.Second

// Run answers until ctx is done.
func (x *Inquirer) Run(ctx context.Context) {
	x.Every = cmp.Or(x.Every, 500*time.Millisecond)
	for ctx.Err() == nil {
		if err := x.Round(ctx); err != nil && ctx.Err() == nil {
			x.Log.Error("answering operators", oplog.Cause(gate.Scrub(err)))
		}
		select {
		case <-ctx.Done():
		case <-time.After(x.Every):
		}
	}
}

// Round answers what waits.
func (x *Inquirer) Round(ctx context.Context) error {
	waiting, err := x.Registry.inquired(ctx)
	if err != nil || len(waiting) == 0 {
		return err
	}
	list, err := x.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, t := range list {
		if !waiting[t.ID.Int()] {
			continue
		}
		if err := x.Registry.takeInquiry(ctx, t, func(q Inquiry) InquiryAnswer { return x.reply(ctx, t, q) }); err != nil {
			return err
		}
	}
	return nil
}

// reply answers a question. Whatever it does to this program, the others are
// answered.
func (x *Inquirer) reply(ctx context.Context, t *tenant.Tenant, q Inquiry) (a InquiryAnswer) {
	ctx, cancel := context.WithTimeout(ctx, inquiryTimeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			x.Log.Error("panic while answering an operator", oplog.Tenant(t.Slug.String()), oplog.Stack())
			a = InquiryAnswer{Code: fhir.Exception, Words: "internal error"}
		}
	}()
	a, err := x.DB.inquire(ctx, smart.Inquiry(t, q.Operator, q.Request), q, x.Registry)
	var fe *fhir.Error
	switch {
	case err == nil:
		return a
	case errors.As(err, &fe):
		return InquiryAnswer{Code: fe.Code(), Words: fe.Error()}
	case ctx.Err() != nil:
		return InquiryAnswer{Code: fhir.TooCostly, Words: "the answer takes too long; ask for less"}
	}
	x.Log.Error("answering an operator", oplog.Tenant(t.Slug.String()), oplog.Request(q.Request), oplog.Cause(gate.Scrub(err)))
	return InquiryAnswer{Code: fhir.Exception, Words: "internal error"}
}

func (db *DB) inquire(ctx context.Context, g *smart.Grant, q Inquiry, r *Registry) (a InquiryAnswer, err error) {
	switch {
	case q.Access != nil:
		if err := r.registered(ctx, g.Tenant(), &q.Access.Who); err != nil {
			return a, err
		}
		a.Access, err = db.Why(ctx, g, *q.Access, r)
	case q.DryRun != nil:
		if err := r.registered(ctx, g.Tenant(), &q.DryRun.Who); err != nil {
			return a, err
		}
		a.DryRun, err = db.DryRun(ctx, g, *q.DryRun, r)
	default:
		err = fhir.Errorf(fhir.Invalid, "the inquiry asks nothing")
	}
	return a, err
}

// registered takes what is not said of a client from its registration: one can
// be asked about by its id alone. A scope that is narrowed by a search is taken as
// it is registered only: who chose the search would read records by what it finds.
func (r *Registry) registered(ctx context.Context, t *tenant.Tenant, who *smart.Asker) error {
	narrowed := who.Narrowed()
	if len(narrowed) > 0 && who.Client == "" {
		return errNarrowed()
	}
	if who.Client == "" || who.Scope != "" && len(narrowed) == 0 {
		return nil
	}
	c, err := r.Client(ctx, t, who.Client)
	if errors.Is(err, smart.ErrUnknownClient) {
		return fhir.Errorf(fhir.NotFound, "the tenant has no such client; say the scope")
	}
	if err != nil {
		return err
	}
	if who.Scope == "" {
		who.Fill(c)
		return nil
	}
	if slices.ContainsFunc(narrowed, func(scope string) bool { return !slices.Contains(c.Scopes, scope) }) {
		return errNarrowed()
	}
	return nil
}

func errNarrowed() error {
	return fhir.Errorf(fhir.Forbidden, "a scope that is narrowed by a search is taken from the registration of a client, or from an entry of the audit trail")
}

// inquired returns the numbers of the tenants of which something is asked that
// somebody still waits for.
func (r *Registry) inquired(ctx context.Context) (map[int32]bool, error) {
	waiting := map[int32]bool{}
	err := gate.Steadily(func() error {
		rows, err := r.pool.Query(ctx, `SELECT DISTINCT tenant_id FROM registry.inquiry WHERE taken IS NULL AND asked > now() - interval '1 minute'`)
		if err != nil {
			return err
		}
		var id int32
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
			waiting[id] = true
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading what operators ask: %w", err)
	}
	if r.purgeDue(time.Now()) {
		r.purge(ctx)
	}
	return waiting, nil
}

// takeInquiry takes up a question about the tenant that no other server has, and
// leaves the reply.
func (r *Registry) takeInquiry(ctx context.Context, t *tenant.Tenant, reply func(Inquiry) InquiryAnswer) error {
	var id int64
	var kek string
	var sealed []byte
	err := r.pool.QueryRow(ctx, `
		UPDATE registry.inquiry SET taken = now()
		WHERE  id = (SELECT id FROM registry.inquiry
		             WHERE  tenant_id = $1 AND taken IS NULL
		             ORDER  BY id
		             LIMIT  1
		             FOR    UPDATE SKIP LOCKED)
		RETURNING id, kek, question`, t.ID.Int()).Scan(&id, &kek, &sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // another was faster
	}
	if err != nil {
		return fmt.Errorf("taking up what an operator asks: %w", err)
	}
	plain, err := keys.Unwrap(r.kms, kek, sealed, questionAD(t.ID.Int()))
	if err != nil {
		return fmt.Errorf("opening what an operator asks: %w", err)
	}
	var q Inquiry
	if err := json.Unmarshal(plain, &q); err != nil {
		return fmt.Errorf("reading what an operator asks: %w", err)
	}
	answer, err := json.Marshal(reply(q))
	if err != nil {
		return fmt.Errorf("answering an operator: %w", err)
	}
	if sealed, err = keys.Wrap(r.kms, kek, answer, answerAD(t.ID.Int(), id)); err != nil {
		return fmt.Errorf("sealing an answer: %w", err)
	}
	if _, err := r.pool.Exec(ctx, `UPDATE registry.inquiry SET answer = $2 WHERE id = $1`, id, sealed); err != nil {
		return fmt.Errorf("answering an operator: %w", err)
	}
	return nil
}
