package origin

import "time"

// MaxPause bounds the pauses of a breaker, which grow.
const MaxPause = 30 * time.Second
