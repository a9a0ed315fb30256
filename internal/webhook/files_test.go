package webhook

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"readthrough/test/harness"
)

// mounted is a directory as the kubelet mounts a Secret: the files are links through ..data, which is replaced at once.
type mounted struct {
	t   *testing.T
	dir string
	n   int
}

func mount(t *testing.T) *mounted { return &mounted{t: t, dir: t.TempDir()} }

// put replaces the content.
func (m *mounted) put(files map[string][]byte) {
	m.t.Helper()
	m.n++
	version := "..v" + string(rune('0'+m.n))
	must(m.t, os.Mkdir(filepath.Join(m.dir, version), 0o700))
	for name, content := range files {
		must(m.t, os.WriteFile(filepath.Join(m.dir, version, name), content, 0o600))
		_ = os.Symlink(filepath.Join("..data", name), filepath.Join(m.dir, name)) // there since the first time
	}
	must(m.t, os.Symlink(version, filepath.Join(m.dir, "..new")))
	must(m.t, os.Rename(filepath.Join(m.dir, "..new"), filepath.Join(m.dir, "..data")))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	ca := harness.MustCA(t)
	certificate := func() map[string][]byte {
		c, err := ca.Server("readthrough.rt.svc")
		must(t, err)
		return map[string][]byte{"tls.crt": c.CertPEM, "tls.key": c.KeyPEM, "ca.crt": ca.PEM()}
	}
	first, second := certificate(), certificate()
	m := mount(t)
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.ErrorLevel)
		metrics := NewMetrics(prometheus.NewRegistry())
		f := NewFiles(m.dir, zap.New(core), metrics)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); f.Run(ctx) }()

		time.Sleep(10 * time.Second)
		if err := f.Ready(); err == nil || !strings.Contains(err.Error(), "tls.crt: no such file") {
			t.Errorf("without files: %v", err)
		}
		if _, err := f.GetCertificate(nil); err == nil {
			t.Error("a certificate without files")
		}
		if n := logs.Len(); n != 1 {
			t.Errorf("%d errors logged", n)
		}
		serves := func(when string, files map[string][]byte) {
			t.Helper()
			time.Sleep(2 * filesInterval)
			want, err := parsePair(files["tls.crt"], files["tls.key"])
			must(t, err)
			if err := f.Ready(); err != nil || !f.served.Load().sameAs(want) {
				t.Errorf("%s: %v", when, err)
			}
			if got := testutil.ToFloat64(metrics.expiry); got != float64(want.leaf.NotAfter.Unix()) {
				t.Errorf("%s: expiry %v", when, got)
			}
		}
		m.put(first)
		serves("at first", first)
		m.put(second)
		serves("renewed", second)
		m.put(map[string][]byte{"tls.crt": first["tls.crt"], "tls.key": second["tls.key"]})
		serves("of two that do not belong together", second)
		m.put(map[string][]byte{"tls.crt": []byte("x"), "tls.key": []byte("y")})
		serves("not PEM", second)
		m.put(first)
		serves("again", first)
		cancel()
		<-done
	})
}
