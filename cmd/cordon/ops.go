package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// ops is what operators see of a running plane: whether it lives, whether it
// is ready, and figures that name no person and no record.
type ops struct {
	log      *oplog.Logger
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	alerts   *prometheus.CounterVec
	messages *prometheus.CounterVec
	profiled bool // whether profiles are served; they show code, not data

	mu     sync.Mutex
	checks map[string]func(context.Context) error
}

func newOps(log *oplog.Logger) *ops {
	o := &ops{
		log:      log,
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cordon_requests_total",
			Help: "Requests answered, by the number of the tenant (empty if none was proven), the route and the status.",
		}, []string{"tenant", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "cordon_request_seconds",
			Help:    "Time to the answer, by route.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"route"}),
		alerts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cordon_alerts_total",
			Help: "What rules saw, by rule: attempts that cannot happen by chance, and limits of habit that were passed.",
		}, []string{"rule"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cordon_alert_messages_total",
			Help: "Messages to webhooks for alerts, by what became of them; one that failed is sent again.",
		}, []string{"result"}),
		checks: map[string]func(context.Context) error{},
	}
	for _, rule := range alert.Rules {
		o.alerts.WithLabelValues(string(rule)) // 0 is a figure too
	}
	for _, result := range []string{"delivered", "failed"} {
		o.messages.WithLabelValues(result)
	}
	o.registry.MustRegister(o.requests, o.duration, o.alerts, o.messages,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return o
}

// observe returns what fhir/rest tells of each request. Routes are patterns,
// and a tenant is counted only once it was proven, so neither a client nor a
// stranger can make new series.
func (o *ops) observe(tenants *tenant.Registry) func(route, slug string, status int, took time.Duration) {
	return func(route, slug string, status int, took time.Duration) {
		number := ""
		if slug != "" {
			if t, err := tenants.Tenant(context.Background(), slug); err == nil {
				number = t.ID.String()
			}
		}
		o.requests.WithLabelValues(number, route, strconv.Itoa(status)).Inc()
		o.duration.WithLabelValues(route).Observe(took.Seconds())
	}
}

// sighted counts what a rule saw.
func (o *ops) sighted(rule smart.Rule) { o.alerts.WithLabelValues(string(rule)).Inc() }

// told counts a message to a webhook.
func (o *ops) told(delivered bool) {
	result := "failed"
	if delivered {
		result = "delivered"
	}
	o.messages.WithLabelValues(result).Inc()
}

// check adds something that must answer before the plane is ready.
func (o *ops) check(name string, fn func(context.Context) error) {
	o.mu.Lock()
	o.checks[name] = fn
	o.mu.Unlock()
}

// handler serves /healthz, /readyz and /metrics, and /debug/pprof/ if asked to.
func (o *ops) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", o.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{}))
	if o.profiled {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	}
	return mux
}

// ready answers 200 if every check passes within two seconds, else 503. It
// names the checks; why one fails is in the log.
func (o *ops) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	o.mu.Lock()
	checks := maps.Clone(o.checks)
	o.mu.Unlock()
	status := http.StatusOK
	answer := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		answer[name] = "ok"
		if err := checks[name](ctx); err != nil {
			o.log.Warn("not ready", oplog.Named("check", name), oplog.Cause(err))
			answer[name] = "failing"
			status = http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // a prober that hangs up wants no answer
}

// draining makes the plane not ready for good: it is about to stop.
func (o *ops) draining() {
	o.check("serving", func(context.Context) error { return errDraining })
}

var errDraining = errors.New("the server is stopping")

type healthcheckCommand struct {
	URL string `arg:"" default:"http://127.0.0.1:8082/readyz" env:"CORDON_HEALTH_URL" help:"What to ask."`
}

// Run asks the server; it is for containers that hold nothing but cordon.
func (h *healthcheckCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", h.URL, resp.Status)
	}
	return nil
}
