// Package suggest finds what somebody meant who wrote something else.
package suggest

import "strings"

// DidYouMean offers the candidate that is close enough to what was written, as a clause to append to a message.
func DidYouMean(written string, candidates []string) string {
	best, limit := "", min(2, len(written)/2)
	for _, c := range candidates {
		if d := distance(strings.ToLower(written), strings.ToLower(c)); d <= limit {
			best, limit = c, d-1
		}
	}
	for _, c := range candidates {
		if best == "" && written != "" && strings.HasPrefix(c, written) {
			best = c
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + best + "?"
}

// distance is the Levenshtein distance of two strings, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
