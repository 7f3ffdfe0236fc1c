//! Guards that can be taken out, to see that a test notices. See the table in the crate's documentation.

/// Whether the build has the mutation of this name (`--cfg edgecache_mutation="name"`). Constant false otherwise.
macro_rules! mutated {
    ($name:tt) => {
        cfg!(edgecache_mutation = $name)
    };
}
