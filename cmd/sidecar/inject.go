package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"readthrough/internal/inject"
)

// injectOptions are the flags of `sidecar inject`. Empty ones leave to the settings what they say.
type injectOptions struct {
	files    []string
	settings string
	image    string
	config   string
	form     string
}

func injectCommand() *cobra.Command {
	var o injectOptions
	c := &cobra.Command{
		Use:   "inject [-f FILE]...",
		Short: "Put the sidecar into the pods of a manifest",
		Long: `Put the sidecar into all Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, ReplicationControllers, PodTemplates, Jobs and
CronJobs of a manifest, as the webhook does when a pod is created, and print the manifest. No cluster is asked, and what is injected
counts on Kubernetes 1.29 or later unless --form ordinary says otherwise. Of other kinds it warns if they have pods.

Annotations readthrough/… of a pod's template change the settings, and its label readthrough/inject: disabled leaves it as it is.
What was done, and why not, is told on standard error. If one object cannot be injected, nothing is printed and the exit
code is 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.Flags().StringArrayVarP(&o.files, "filename", "f", []string{"-"}, "`file` to read, which may be given several times; - is standard input")
	c.Flags().StringVar(&o.settings, "settings", "", "`file` with settings in YAML, as the chart has them under sidecar")
	c.Flags().StringVar(&o.image, "image", "", "the sidecar's `image`")
	c.Flags().StringVar(&o.config, "config", "", "the ConfigMap with the configuration, `NAME` or NAME/KEY")
	c.Flags().StringVar(&o.form, "form", "", "native, ordinary or auto, which is native here")
	return c
}

func (o injectOptions) run(stdin io.Reader, stdout, stderr io.Writer) error {
	settings, err := readSettings(o.settings,
		settingFlag{"--image", "image", o.image}, settingFlag{"--config", "config", o.config}, settingFlag{"--form", "form", o.form})
	if err != nil {
		return err
	}
	options := inject.Options{Settings: settings, Native: true, Version: currentBuild().Version}
	var out bytes.Buffer
	refused := false
	for i, file := range o.files {
		raw, err := readManifest(file, stdin)
		if err != nil {
			return err
		}
		text, results, err := inject.Manifest(raw, options)
		if err != nil {
			return fmt.Errorf("%s: %w", cmp.Or(strings.TrimPrefix(file, "-"), "standard input"), err)
		}
		for _, r := range results {
			report(stderr, r)
			refused = refused || r.Denied != nil
		}
		if i > 0 && !bytes.HasPrefix(text, []byte("---")) {
			if n := out.Len(); n > 0 && out.Bytes()[n-1] != '\n' {
				out.WriteByte('\n')
			}
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	if refused {
		return errors.New("nothing was printed, since not everything can be injected")
	}
	_, err = stdout.Write(out.Bytes())
	return err
}

func readManifest(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", file, fileProblem(err))
	}
	return raw, nil
}

// report tells one object's result on a line, and each warning on one more.
func report(w io.Writer, r inject.Result) {
	object := strings.ToLower(r.Kind) + " " + r.Name
	if r.Namespace != "" {
		object += " in " + r.Namespace
	}
	switch {
	case r.Denied != nil:
		fmt.Fprintf(w, "%s: %s\n", object, r.Denied.Message)
	case r.Injected:
		fmt.Fprintf(w, "%s: injected\n", object)
	default:
		fmt.Fprintf(w, "%s: left as it is: %s\n", object, r.Skipped)
	}
	for _, text := range r.Warnings {
		fmt.Fprintf(w, "%s: warning: %s\n", object, text)
	}
}
