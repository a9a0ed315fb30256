package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/pprof"
	"time"

	"go.uber.org/zap"
)

// debugWriteTimeout bounds one request on the debug address; a CPU profile may take that long.
const debugWriteTimeout = 5 * time.Minute

// explainTimeout bounds what /explain and `sidecar explain` ask of Redis.
const explainTimeout = 5 * time.Second

// status is what /status tells. It holds no value and no secret.
type status struct {
	Version       build     `json:"version"`
	Phase         string    `json:"phase"`
	Started       time.Time `json:"started"`
	Uptime        string    `json:"uptime"`
	ConfigFile    string    `json:"configFile"`
	ConfigRefused []string  `json:"configRefused"` // what is wrong with the file, while an earlier one is in use
	RestartNeeded []string  `json:"restartNeeded"` // fields whose change waits for a restart
	ClientName    string    `json:"clientName"`
	Listen        []string  `json:"listen"`
	Clients       int       `json:"clients"`
	Maps          []string  `json:"maps"`
	Relay         any       `json:"relay,omitempty"`
}

// debugHandler serves what an operator looks at. It is served on loopback only.
//
//	GET /status                what runs, as JSON
//	GET /explain?key=KEY       what a GET of this key does
//	GET, PUT /loglevel         the log level, as {"level":"debug"}
//	GET /debug/pprof/          Go's profiles
func debugHandler(report func() status, explain func(ctx context.Context, w io.Writer, key string) error, level zap.AtomicLevel) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(report()) // the client may be gone
	})
	mux.HandleFunc("GET /explain", func(w http.ResponseWriter, r *http.Request) {
		key := r.URL.Query().Get("key")
		if key == "" {
			answer(w, http.StatusBadRequest, "name a key: /explain?key=usr:profile:7")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), explainTimeout)
		defer cancel()
		var text bytes.Buffer
		if err := explain(ctx, &text, key); err != nil {
			answer(w, http.StatusInternalServerError, err.Error())
			return
		}
		answer(w, http.StatusOK, text.String())
	})
	mux.Handle("/loglevel", level)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return loopbackOnly(mux)
}

// loopbackOnly refuses requests that name another host: a page in a browser on this machine could send those.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if portOf(host) == "" {
			host += ":0"
		}
		if !isLoopback(host) {
			answer(w, http.StatusForbidden, "ask for localhost or a loopback address")
			return
		}
		next.ServeHTTP(w, r)
	})
}
