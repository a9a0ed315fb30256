package origin

import "context"

// until the batch loads are there
type loadItem struct {
	m      *Map
	params Params
}
type loaded struct {
	value   []byte
	failure *Error
}

func (d *database) loadAll(ctx context.Context, items []loadItem) []loaded {
	out := make([]loaded, len(items))
	for i, it := range items {
		out[i].value, out[i].failure = d.load(ctx, it.m, it.params)
	}
	return out
}

func (d *database) enter(m *Map) *Error {
	if d.conf.Queue > 0 && d.loads >= d.conf.Queue {
		return newError(CodeBusy, m, nil, "%d loads from origin %s are under way", d.loads, d.conf.Name)
	}
	d.loads++
	return nil
}
func (d *database) leave(*Map) { d.loads-- }
