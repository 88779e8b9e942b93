//! What all network cards have in common, whatever bus they are on.

use serde_json::Value;

/// A card, for a person who looks at it and pulls its cable.
pub trait Card: Send + Sync {
    /// Its name in its machine: `net0` and so on.
    fn name(&self) -> String;

    /// Plugs the cable in or out.
    fn set_link(&self, up: bool);

    /// What it is and did so far, as in the machine's report.
    fn report(&self) -> Value;
}
