use std::hash::{DefaultHasher, Hash, Hasher};

use maud::{Markup, PreEscaped, html};

/// A piece of a page that can be sent again alone when it has changed.
#[derive(Debug, Clone)]
pub(super) struct Fragment {
    pub(super) id: String,
    class: &'static str,
    own: String,
    pub(super) parts: Vec<Self>,
}

impl Fragment {
    pub(super) fn new(id: impl Into<String>, class: &'static str, own: Markup) -> Self {
        Self {
            id: id.into(),
            class,
            own: own.into_string(),
            parts: Vec::new(),
        }
    }

    /// A piece made of pieces, after what it says itself.
    pub(super) fn with_parts(mut self, parts: Vec<Self>) -> Self {
        self.parts = parts;
        self
    }

    /// Equal for equal content; of the parts, only which there are counts.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.class.hash(&mut hasher);
        self.own.hash(&mut hasher);
        for part in &self.parts {
            part.id.hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(super) fn render(&self) -> Markup {
        html! {
            div id=(self.id) class=(self.class) data-hash=(format!("{:x}", self.hash())) {
                (PreEscaped(&self.own))
                @for part in &self.parts { (part.render()) }
            }
        }
    }
}
