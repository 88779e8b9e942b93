//! Shorter ways to write cases.

/// Cases that all begin in the same way: each is the body of a closure that `$with` calls.
macro_rules! cases {
    ($with:ident: $(
        $(#[$doc:meta])*
        async fn $name:ident($environment:pat, $argument:pat) $body:block
    )*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// As every case.
        pub async fn $name<E: Environment>(environment: &E) -> CaseResult {
            let $environment = environment;
            $with(environment, async |$argument| $body).await
        }
    )* };
}
pub(crate) use cases;
