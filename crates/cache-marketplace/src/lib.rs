//! The GPU marketplace: GPUs, prices, bookings, and what each change touches.
