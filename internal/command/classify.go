package command

import (
	"slices"
	"strings"
)

// classify sets what a proxy does with the command: by the exceptions, else by
// its flags, keys and tips. A container of subcommands is met by itself only if
// the subcommand is unknown, and then the server has the right error.
func classify(i *Info, container bool) {
	i.Handling = derive(i, container)
	if i.Handling == Private {
		i.Reason = ReasonBlocking
		if i.Flags.Has(FlagPubsub) {
			i.Reason = ReasonSubscribe
		}
	}
	x := exceptionFor(i)
	if x == nil {
		return
	}
	i.Why = x.why
	i.option = x.option
	if x.handling != 0 {
		i.Handling, i.Action, i.Reason, i.Response = x.handling, x.action, x.reason, x.response
	}
}

func derive(i *Info, container bool) Handling {
	keyed := len(i.specs) > 0 || i.finder != 0 || i.AskKeys
	switch {
	case container:
		return FixedNode
	case i.Flags.Has(FlagPubsub | FlagNoScript): // the flags that tell SUBSCRIBE from PUBLISH
		return Private
	case i.Flags.Has(FlagBlocking):
		return Private
	case keyed && i.Request == RequestMultiShard && i.splittable():
		return Split
	case keyed:
		return ByKey
	case i.Response == ResponseSpecial:
		return FixedNode
	case i.Request == RequestAllShards:
		return AllShards
	case i.Request == RequestAllNodes:
		return AllNodes
	}
	return FixedNode
}

// splittable reports whether parts of the command can be made by leaving out
// keys: its arguments are keys, each with what belongs to it, to the very end.
// (MSETEX, tipped multi_shard too, counts its keys and ends with options.)
func (i *Info) splittable() bool {
	return len(i.specs) == 1 && i.KeyStep > 0 && i.Response != ResponseSpecial && i.Response != ResponseOneSucceeded
}

// parseTips returns the policies among a command's tips.
func parseTips(tips []string) (request Request, response Response) {
	for _, tip := range tips {
		name, value, _ := strings.Cut(strings.ToLower(tip), ":")
		switch name {
		case "request_policy":
			if n := slices.Index(requestNames[:], value); n > 0 {
				request = Request(n)
			} else {
				request = RequestSpecial
			}
		case "response_policy":
			if n := slices.Index(responseNames[:ResponseSpecial], value); n > 0 {
				response = Response(n)
			} else {
				response = ResponseSpecial
			}
		}
	}
	return request, response
}

// describeEffect sets Write and ReadOnly. The server's COMMAND does not show
// its flag may_replicate, so a command that it does not call a write may change
// keys: scripts, by the key specs that say so, or by keys that may be anywhere.
// A module's word is taken for its readonly, since the server makes up specs for
// the commands of modules, and these always say RW.
func describeEffect(i *Info, e Entry) {
	readonly := i.Flags.Has(FlagReadonly)
	i.Write = i.Flags.Has(FlagWrite) || i.Flags.Has(FlagMovableKeys) && !readonly
	if !readonly || !i.Flags.Has(FlagModule) {
		for _, spec := range e.KeySpecs {
			for _, flag := range spec.Flags {
				switch strings.ToUpper(flag) {
				case "RW", "OW", "RM":
					i.Write = true
				}
			}
		}
	}
	i.ReadOnly = readonly && !i.Write
	i.Repeatable = i.ReadOnly || !i.Write && repeatable[i.Name]
	i.ReadsThrough = readsThrough[i.Name]
}
