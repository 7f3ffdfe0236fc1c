//! Whether this build has guards that can be taken out.

#[cfg(all(edgecache_mutation, not(debug_assertions)))]
compile_error!("a build from which guards can be taken out is no release");

/// Whether guards can be taken out, by the name in the environment variable `EDGECACHE_MUTATION`.
pub const fn guards_can_be_taken_out() -> bool {
    #[cfg(edgecache_mutation)]
    return true;
    #[cfg(not(edgecache_mutation))]
    return false;
}
