//! Guards that can be taken out, to see that a test notices (`cargo xtask mutants`).

/// Whether the guard of this name is taken out: only in a build with `--cfg edgecache_mutation` whose environment names
/// it. Constant false otherwise.
macro_rules! mutated {
    ($name:literal) => {
        cfg!(edgecache_mutation) && option_env!("EDGECACHE_MUTATION") == Some($name)
    };
}
