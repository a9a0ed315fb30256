package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"readthrough/internal/kube"
)

// pollTime is left of a certificate's last third for replicas to notice what has changed.
const pollTime = 15 * time.Second

// webhookOptions are the flags of `sidecar webhook`.
type webhookOptions struct {
	listen, admin string
	settings      string // file
	image         string // empty: as the settings say
	drain         time.Duration
	logLevel      string

	configuration string
	validation    bool
	service       string
	namespace     string

	// Either the certificates are made and kept in a Secret, or a directory has one that somebody else renews.
	certificateSecret, lease string
	lifetime, settle         time.Duration
	certificateDir           string

	logFile *os.File
	// signals end the program: the first begins the drain, the second ends it at once.
	signals <-chan os.Signal
	// api says where Kubernetes is.
	api func() (kube.Config, error)
	// started is told the addresses once the program listens; nil for nobody.
	started func(listen, admin net.Addr)
}

func webhookCommand() *cobra.Command {
	o := webhookOptions{logFile: os.Stderr, api: kube.InCluster}
	c := &cobra.Command{
		Use:   "webhook",
		Short: "Inject sidecars into pods, as an admission webhook of Kubernetes",
		Long: `Serve the admission webhook: POST /mutate injects the sidecar into pods, POST /validate checks ConfigMaps that hold a
configuration. This runs in a pod of the cluster, as the chart sets it up.

Certificates are made and rotated by the replicas themselves, which share them in --certificate-secret and choose by --lease who
makes them; or they are read from --certificate-dir, where cert-manager renews tls.crt and tls.key.

The first SIGTERM or SIGINT begins the drain: readiness turns off, and requests are answered on for the time of --drain. A
second signal exits at once, with 128 plus the signal's number.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := o.validate(); err != nil {
				return usageError{err}
			}
			signals := make(chan os.Signal, 2)
			signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
			o.signals = signals
			limitMemory()
			return runWebhook(o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.listen, "listen", ":8443", "`address` that API servers reach, by HTTPS")
	f.StringVar(&o.admin, "admin", ":8081", "`address` of probes and metrics, by HTTP")
	f.StringVar(&o.settings, "settings", "", "`file` with what an injected sidecar gets, followed as it changes; the defaults if empty")
	f.StringVar(&o.image, "image", "", "`image` of injected sidecars, in place of the one in the settings")
	f.StringVar(&o.configuration, "configuration", "readthrough", "`name` of the MutatingWebhookConfiguration, and of the ValidatingWebhookConfiguration")
	f.BoolVar(&o.validation, "validation", true, "whether there is a ValidatingWebhookConfiguration; without one no right to it is needed")
	f.StringVar(&o.service, "service", "", "`name` of the Service in front of this, for the certificate")
	f.StringVar(&o.namespace, "namespace", podNamespace(), "`namespace` of the Service, the Secret and the Lease (or POD_NAMESPACE)")
	f.StringVar(&o.certificateSecret, "certificate-secret", "", "`name` of the Secret that keeps the certificates; it exists, empty at first")
	f.StringVar(&o.lease, "lease", "", "`name` of the Lease that elects who makes certificates; it exists, empty at first")
	f.DurationVar(&o.lifetime, "certificate-lifetime", 90*24*time.Hour, "how long a certificate is valid; a new one is made after two thirds of the `time`")
	f.DurationVar(&o.settle, "certificate-settle", time.Minute, "the `time` between trust in a new certificate and its use")
	f.StringVar(&o.certificateDir, "certificate-dir", "", "`directory` with tls.crt and tls.key that somebody else renews")
	f.DurationVar(&o.drain, "drain", 5*time.Second, "the `time` for which requests are answered after SIGTERM")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error, as `level`")
	return c
}

// validate finds what is wrong with the flags, and with them together.
func (o *webhookOptions) validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, a := range []struct{ flag, address string }{{"listen", o.listen}, {"admin", o.admin}} {
		if err := checkListen(a.address); err != nil {
			wrong("--%s: %w", a.flag, err)
		}
	}
	if port := portOf(o.listen); port != "0" && port == portOf(o.admin) {
		wrong("--admin: port %s is taken by --listen: write another", port)
	}
	if _, err := parseLevel(o.logLevel); err != nil {
		errs = append(errs, err)
	}
	if o.drain < 0 {
		wrong("--drain %s is negative: write 0s to end at once", o.drain)
	}
	if o.certificateDir == "" {
		errs = append(errs, o.validateOwnCertificates())
	} else if o.certificateSecret != "" || o.lease != "" {
		wrong("--certificate-dir stands beside --certificate-secret or --lease: certificates are either read or made")
	}
	return errors.Join(errs...)
}

func (o *webhookOptions) validateOwnCertificates() error {
	var missing []string
	for _, f := range []struct{ flag, value string }{
		{"--certificate-secret", o.certificateSecret},
		{"--lease", o.lease},
		{"--service", o.service},
		{"--namespace", o.namespace},
		{"--configuration", o.configuration},
	} {
		if f.value == "" {
			missing = append(missing, f.flag)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("to make certificates, give %s as well; or name a directory that has one, by --certificate-dir", strings.Join(missing, ", "))
	}
	if o.settle < time.Second {
		return fmt.Errorf("--certificate-settle %s is too short for API servers to see a change: write 1s or more", o.settle)
	}
	if least := 3 * (o.settle + pollTime); o.lifetime < least {
		return fmt.Errorf("--certificate-lifetime %s leaves too little time to replace a certificate: write %s or more, or a shorter --certificate-settle", o.lifetime, least)
	}
	return nil
}

// replicaName tells this process from every other that takes part in the election: containers of one pod that follow each other
// are not the same.
func replicaName() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s_%d", cmp.Or(os.Getenv("POD_NAME"), host, "webhook"), time.Now().UnixNano())
}
