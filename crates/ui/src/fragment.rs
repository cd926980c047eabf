use std::hash::{DefaultHasher, Hash, Hasher};

use maud::{Markup, PreEscaped, html};

/// The element that a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    Div,
    Table,
    Row,
}

/// A piece of a page that can be sent again alone when it has changed.
#[derive(Debug, Clone)]
pub(crate) struct Fragment {
    pub(crate) id: String,
    tag: Tag,
    class: &'static str,
    own: String,
    pub(crate) parts: Vec<Self>,
}

impl Fragment {
    pub(crate) fn new(id: impl Into<String>, class: &'static str, own: Markup) -> Self {
        Self {
            id: id.into(),
            tag: Tag::Div,
            class,
            own: own.into_string(),
            parts: Vec::new(),
        }
    }

    pub(crate) fn with_tag(mut self, tag: Tag) -> Self {
        self.tag = tag;
        self
    }

    /// A piece made of pieces, after what it says itself.
    pub(crate) fn with_parts(mut self, parts: Vec<Self>) -> Self {
        self.parts = parts;
        self
    }

    /// Equal for equal content; of the parts, only which there are counts.
    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.class.hash(&mut hasher);
        self.own.hash(&mut hasher);
        for part in &self.parts {
            part.id.hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(crate) fn render(&self) -> Markup {
        let (id, class, hash) = (&self.id, self.class, format!("{:x}", self.hash()));
        match self.tag {
            Tag::Div => html! { div id=(id) class=(class) data-hash=(hash) { (self.inner()) } },
            Tag::Table => html! { table id=(id) class=(class) data-hash=(hash) { (self.inner()) } },
            Tag::Row => html! { tr id=(id) class=(class) data-hash=(hash) { (self.inner()) } },
        }
    }

    fn inner(&self) -> Markup {
        html! {
            (PreEscaped(&self.own))
            @for part in &self.parts { (part.render()) }
        }
    }
}
