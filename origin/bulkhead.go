package origin

// enter counts a key that is being loaded, or waits for that, in this pod, unless there are too many: of its map, so that one map leaves
// room for the others, or of its origin. leave must be called for it. Both must be called with Resolver.mu held.
func (d *database) enter(m *Map) *Error {
	switch {
	case d.loads >= d.conf.Queue:
		return newError(CodeBusy, m, nil, "%d loads from origin %s are under way", d.loads, d.conf.Name)
	case d.loadsOf[m.Name] >= m.Queue:
		return newError(CodeBusy, m, nil, "%d of its loads are under way", d.loadsOf[m.Name])
	}
	d.loads++
	d.loadsOf[m.Name]++
	return nil
}

func (d *database) leave(m *Map) {
	d.loads--
	if d.loadsOf[m.Name]--; d.loadsOf[m.Name] == 0 {
		delete(d.loadsOf, m.Name)
	}
}
