package main

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Percent is a share of one hundred: 10 for 10%.
type Percent float64

func parsePercent(text string) (Percent, error) {
	number, ok := strings.CutSuffix(text, "%")
	p, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a percentage: write one such as 10%%", text)
	case !ok && p > 0 && p < 1:
		return 0, fmt.Errorf("%s has no percent sign: write %s%%", text, strconv.FormatFloat(p*100, 'g', 6, 64))
	case !ok:
		return 0, fmt.Errorf("%s has no percent sign: write %s%%", text, text)
	}
	return Percent(p), nil
}

// Size is a number of bytes.
type Size int

var sizeForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)$`)

// sizeUnits are those of Kubernetes' quantities with their B, and bytes.
var sizeUnits = map[string]float64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

func parseSize(text string) (Size, error) {
	form := sizeForm.FindStringSubmatch(text)
	if form == nil {
		return 0, fmt.Errorf("%q is not a size: write one such as 8MiB, 512KiB or 4096, which is bytes", text)
	}
	factor, ok := sizeUnits[form[2]]
	if !ok {
		return 0, fmt.Errorf("%q: %s is not a unit here: write KiB, MiB, GiB, or none for bytes", text, form[2])
	}
	number, err := strconv.ParseFloat(form[1], 64)
	if size := number * factor; err == nil && size <= 1<<40 && size == math.Trunc(size) {
		return Size(size), nil
	}
	return 0, fmt.Errorf("%q is not a whole number of bytes below 1024GiB", text)
}

var bareNumber = regexp.MustCompile(`^[+-]?[0-9][0-9_]*(\.[0-9]+)?$`)

func parseDuration(text string) (time.Duration, error) {
	if bareNumber.MatchString(text) {
		return 0, fmt.Errorf("%s has no unit: write %sms, %ss, %sm or %sh", text, text, text, text, text)
	}
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, nil
	}
	if days, err := strconv.Atoi(strings.TrimSuffix(text, "d")); err == nil {
		return 0, fmt.Errorf("%q: days are not a unit here: write %dh", text, 24*days)
	}
	return 0, fmt.Errorf("%q is not a duration: write one such as 250ms, 30s or 1h", text)
}
