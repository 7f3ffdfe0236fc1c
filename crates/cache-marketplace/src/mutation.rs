//! Guards that can be taken out, to see that a test notices (`cargo xtask mutations`).

/// Whether the guard of this name is taken out: only in a build with `--cfg edgecache_mutation`, and there the one that
/// the environment names. Constant false otherwise.
macro_rules! mutated {
    ($name:literal) => {
        $crate::mutation::is_out($name)
    };
}

#[cfg(not(edgecache_mutation))]
#[inline(always)]
pub(crate) const fn is_out(_guard: &str) -> bool {
    false
}

/// One build serves all guards. Several may be out together, with commas between their names: of two lines of defence
/// nothing shows that one is missing.
#[cfg(edgecache_mutation)]
pub(crate) fn is_out(guard: &str) -> bool {
    static OUT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let out = OUT.get_or_init(|| std::env::var("EDGECACHE_MUTATION").unwrap_or_default());
    out.split(',').any(|out| out == guard)
}

#[cfg(all(edgecache_mutation, not(debug_assertions)))]
compile_error!("guards can be taken out of this build: it must not be released");
