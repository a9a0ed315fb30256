// Command image makes Readthrough's container image, without a container engine:
//
//	image [flags] archive FILE NAME:TAG BUILD…    an OCI archive of all platforms, under the name that it gets where it is loaded
//	image [flags] push NAME:TAG BUILD…            the same into a registry
//	image [flags] rootfs FOLDER ARCHITECTURE BUILD…
//	                                              the files of one platform's image
//
// BUILD is the command that builds the program, such as "go build -trimpath"; what to build, for which platform, and where to put
// it are added. So the flags have one place, the Makefile, which is also how this command is run: see "make help". It has to run in
// the module's root.
//
// It stands beside the program because it makes of it what people get; the Dockerfile uses it too. It is a command of its own since
// the program is copied into every pod, and what builds images must not be.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// platforms are those of the image. The operating system is always Linux.
var platforms = []string{"amd64", "arm64"}

// stamp says which build it is.
type stamp struct {
	version string
	commit  string
	date    time.Time // of the commit; every file in the image is as old
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run carries out a command line; what it made is told to out.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	var s stamp
	flags.StringVar(&s.version, "version", "devel", "the version")
	flags.StringVar(&s.commit, "commit", "unknown", "the commit")
	date := flags.String("date", "1970-01-01T00:00:00Z", "the commit's `time`, as in RFC 3339")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if s.date, err = time.Parse(time.RFC3339, *date); err != nil {
		return fmt.Errorf("-date: %w", err)
	}
	s.date = s.date.UTC()

	switch args := flags.Args(); {
	case len(args) > 3 && args[0] == "archive":
		return archive(ctx, out, args[1], args[2], s, args[3:])
	case len(args) > 2 && args[0] == "push":
		return push(ctx, out, args[1], s, args[2:])
	case len(args) > 3 && args[0] == "rootfs":
		return rootfs(ctx, out, args[1], args[2], s, args[3:])
	}
	return errors.New("say what to make: archive FILE NAME:TAG BUILD…, push NAME:TAG BUILD… or rootfs FOLDER ARCHITECTURE BUILD…; BUILD is a command such as go build")
}

// built gives the files of an architecture's image.
func built(ctx context.Context, arch string, build []string) ([]file, error) {
	program, err := compile(ctx, arch, build)
	if err != nil {
		return nil, err
	}
	licenses, err := licenses(ctx, arch)
	if err != nil {
		return nil, err
	}
	files, err := tree(program, licenses)
	if err != nil {
		return nil, fmt.Errorf("linux/%s: %w", arch, err)
	}
	return files, nil
}

// rootfs writes the files of an architecture's image into a folder.
func rootfs(ctx context.Context, out io.Writer, folder, arch string, s stamp, build []string) error {
	if arch == "" {
		arch = runtime.GOARCH
	}
	files, err := built(ctx, arch, build)
	if err != nil {
		return err
	}
	if err := unpack(files, folder, s.date); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: linux/%s, %s\n", folder, arch, mebibytes(size(files)))
	return nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
