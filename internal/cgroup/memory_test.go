package cgroup

import (
	"testing"
	"testing/fstest"
)

// TestMemoryLimit has the files of the kernel as they are in containers and elsewhere.
func TestMemoryLimit(t *testing.T) {
	const (
		top1, top2 = "sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory.max"
		self       = "proc/self/cgroup"
		unlimited1 = "9223372036854771712\n"
		mib        = 1 << 20
	)
	for name, test := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"version 2":                {map[string]string{self: "0::/\n", top2: "134217728\n"}, 128 * mib},
		"version 2, 1.5Gi":         {map[string]string{self: "0::/\n", top2: "1610612736\n"}, 1536 * mib},
		"version 2, odd bytes":     {map[string]string{self: "0::/\n", top2: "200000000\n"}, 200_000_000},
		"version 2, no limit":      {map[string]string{self: "0::/\n", top2: "max\n"}, 0},
		"version 2, the host sees": {map[string]string{self: "0::/system.slice/a.service\n", "sys/fs/cgroup/system.slice/a.service/memory.max": "268435456\n"}, 256 * mib},
		"version 2, a group in the container's": {map[string]string{
			self: "0::/init\n", top2: "268435456\n", "sys/fs/cgroup/init/memory.max": "max\n",
		}, 256 * mib},
		"version 2, outside of what it sees": {map[string]string{self: "0::/../../b\n", top2: "268435456\n", "sys/fs/b/memory.max": "1048576\n"}, 256 * mib},
		"version 2, a parent only": {map[string]string{
			self: "0::/kubepods/pod/a\n", "sys/fs/cgroup/kubepods/memory.max": "8589934592\n", "sys/fs/cgroup/kubepods/pod/a/memory.max": "max\n",
		}, 0},
		"version 1": {map[string]string{self: "5:cpu,cpuacct:/kubepods/a\n4:memory:/kubepods/a\n", top1: "268435456\n"}, 256 * mib},
		"version 1, the host sees": {map[string]string{
			self: "12:pids:/a\n11:cpuset,memory:/a:b\n", top1: unlimited1, "sys/fs/cgroup/memory/a:b/memory.limit_in_bytes": "67108864\n",
		}, 64 * mib},
		"version 1, no limit":             {map[string]string{self: "4:memory:/\n", top1: unlimited1}, 0},
		"version 1, no limit, 64 KiB":     {map[string]string{self: "4:memory:/\n", top1: "9223372036854710272\n"}, 0},
		"both, 2 without memory":          {map[string]string{self: "4:memory:/a\n0::/\n", top1: "268435456\n"}, 256 * mib},
		"both":                            {map[string]string{top1: "268435456\n", top2: "134217728\n"}, 128 * mib},
		"no /proc":                        {map[string]string{top2: "268435456\n"}, 256 * mib},
		"neither Linux nor such files":    {nil, 0},
		"nonsense":                        {map[string]string{self: "\n:\n::\na:b", top2: "much\n", top1: "-1\n"}, 0},
		"nothing allowed, which is none":  {map[string]string{top2: "0\n"}, 0},
		"more than an int64, also in one": {map[string]string{top2: "18446744073709551615\n", top1: "268435456\n"}, 256 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for path, content := range test.files {
				root[path] = &fstest.MapFile{Data: []byte(content)}
			}
			if got := MemoryLimit(root); got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}
