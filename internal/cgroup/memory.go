// Package cgroup finds what the process's control group allows it.
package cgroup

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// noLimit and more is how version 1 of cgroups writes that there is no limit: as the last whole page of an int64, of whatever size pages
// are. Version 2 writes "max".
const noLimit = 1 << 62

// MemoryLimit is the bytes that the process's control group may take, or 0 where nothing bounds them. Of several limits the least holds.
// What a pod of several containers may take together is not looked for: one of them has no claim to most of it.
// root is the file system, from / on.
func MemoryLimit(root fs.FS) int64 {
	var least int64
	for _, file := range memoryFiles(root) {
		text, err := fs.ReadFile(root, file)
		if err != nil {
			continue
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err == nil && limit > 0 && limit < noLimit && (least == 0 || limit < least) {
			least = limit
		}
	}
	return least
}

// memoryFiles are where the limit may be written: at the top of the tree, which in a container is its own group, and where
// /proc/self/cgroup says that the process is, for one in a service of systemd, or in a container that sees the host's tree.
func memoryFiles(root fs.FS) []string {
	const (
		tree1, limit1 = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		tree2, limit2 = "sys/fs/cgroup", "memory.max"
	)
	files := []string{path.Join(tree2, limit2), path.Join(tree1, limit1)}
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return files
	}
	for line := range strings.Lines(string(groups)) { // such as 4:memory:/a/b, or in version 2 0::/a/b
		_, line, _ = strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, group, _ := strings.Cut(line, ":")
		group = path.Clean("/" + group)
		switch {
		case controllers == "":
			files = append(files, path.Join(tree2, group, limit2))
		case slices.Contains(strings.Split(controllers, ","), "memory"):
			files = append(files, path.Join(tree1, group, limit1))
		}
	}
	return files
}
