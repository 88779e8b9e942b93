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

/// SCSI cases: each for any [`crate::scsi::target::Target`], in a module `on`, and for an environment by a channel of its own.
macro_rules! scsi_cases {
    ($(
        $(#[$doc:meta])*
        async fn $name:ident($disk:ident) $body:block
    )*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            ///
            /// As every case.
            pub async fn $name<E: Environment>(environment: &E) -> CaseResult {
                with_disk(environment, async |disk| on::$name(&disk).await).await
            }
        )*

        /// The cases for a disk behind any [`Target`].
        pub mod on {
            use super::*;

            $(
                $(#[$doc])*
                ///
                /// # Errors
                ///
                /// As every case.
                pub async fn $name<T: Target>($disk: &ScsiDisk<'_, T>) -> CaseResult $body
            )*
        }
    };
}
pub(crate) use scsi_cases;
