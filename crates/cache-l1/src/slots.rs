//! Places for the fronts of entries, aligned to cache lines without a byte of padding.

/// Whatever the size of `T`, eight of them are a multiple of a line, as sizes are multiples of 8.
const BLOCK: usize = 8;

#[derive(Debug)]
#[repr(align(64))]
struct Block<T>([Option<T>; BLOCK]);

/// A growing array of optional values. An index that was never given out is empty.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    blocks: Vec<Block<T>>,
    len: u32,
}

impl<T> Slots<T> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { blocks: Vec::with_capacity(capacity.div_ceil(BLOCK)), len: 0 }
    }

    /// Adds an empty place.
    pub(crate) fn push(&mut self) -> u32 {
        let slot = self.len;
        if (slot as usize).is_multiple_of(BLOCK) {
            push_sparingly(&mut self.blocks, Block([const { None }; BLOCK]));
        }
        self.len += 1;
        slot
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.blocks.get(slot as usize / BLOCK)?.0[slot as usize % BLOCK].as_ref()
    }

    /// A place that was given out.
    #[inline(always)]
    pub(crate) fn place(&mut self, slot: u32) -> &mut Option<T> {
        &mut self.blocks[slot as usize / BLOCK].0[slot as usize % BLOCK]
    }

    #[inline(always)]
    pub(crate) fn take(&mut self, slot: u32) -> Option<T> {
        self.blocks.get_mut(slot as usize / BLOCK)?.0[slot as usize % BLOCK].take()
    }
}

/// Pushes; a full vector grows by an eighth, so that not half of it may lie idle.
#[inline]
pub(crate) fn push_sparingly<T>(values: &mut Vec<T>, value: T) {
    if values.len() == values.capacity() {
        grow(values);
    }
    values.push(value);
}

#[cold]
pub(crate) fn grow<T>(values: &mut Vec<T>) {
    values.reserve_exact((values.len() / 8).max(16));
}

/// Makes the vector long enough for the index.
#[inline]
pub(crate) fn reach<T: Copy>(values: &mut Vec<T>, index: usize, empty: T) {
    while index >= values.len() {
        push_sparingly(values, empty);
    }
}
