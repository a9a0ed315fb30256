package main

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger logs to out as JSON or, on a terminal, for people. The level may be changed while it is in use.
//
// Of many equal messages within a second the first hundred are logged and then every hundredth: a failing Redis must not
// fill the node's disk.
func newLogger(out *os.File, format string, level zap.AtomicLevel) *zap.Logger {
	config := zap.NewProductionEncoderConfig()
	config.TimeKey = "time"
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(config)
	if format == "console" || format == "auto" && isTerminal(out) {
		config.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		config.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(config)
	}
	core := zapcore.NewCore(encoder, zapcore.Lock(out), level)
	return zap.New(zapcore.NewSamplerWithOptions(core, time.Second, 100, 100), zap.ErrorOutput(zapcore.Lock(out)))
}

// isTerminal reports whether a person may be reading.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// parseLevel reads the level of --log-level.
func parseLevel(text string) (zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(text)
	if err != nil || level.Level() > zap.ErrorLevel {
		return level, fmt.Errorf("--log-level %q is not a level: write debug, info, warn or error", text)
	}
	return level, nil
}
