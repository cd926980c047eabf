//! Trying out a schedule: its next firings, or where the expression is wrong.

use axum::extract::{Query, State};
use forebay_control::triggers::Preview;
use forebay_engine::{Cron, CronError, Zone};
use jiff::civil::DateTime;
use maud::{Markup, html};
use serde::Deserialize;

use crate::failure::PageResult;
use crate::layout::{Page, Section};
use crate::session::Session;
use crate::show::exact_time;
use crate::site::Pages;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    expression: String,
    timezone: String,
}

/// Expressions to begin with.
const EXAMPLES: [(&str, &str); 4] = [
    ("0 30 2 * * ?", "every night at 02:30"),
    (
        "0 0/15 8-17 ? * MON-FRI",
        "each quarter of an hour in office hours",
    ),
    ("0 0 6 L * ?", "the last day of the month at 06:00"),
    ("0 0 9 ? * MON#1", "the first Monday of the month at 09:00"),
];

pub(crate) async fn show(
    State(pages): State<Pages>,
    session: Session,
    Query(asked): Query<Asked>,
) -> PageResult<Markup> {
    let expression = asked.expression.trim();
    let timezone = match asked.timezone.trim() {
        "" => "UTC",
        zone => zone,
    };
    let body = html! {
        p class="crumbs" { a href="/jobs" { "Jobs" } " / schedules" }
        h1 { "Try a schedule" }
        form class="ask" method="get" action="/schedule" {
            div {
                label for="expression" { "Quartz cron: seconds, minutes, hours, day of month, month, day of week, year" }
                input id="expression" name="expression" value=(expression) placeholder="0 30 2 * * ?"
                    autocomplete="off" spellcheck="false";
            }
            div {
                label for="timezone" { "Time zone" }
                input id="timezone" name="timezone" value=(timezone) list="zones" autocomplete="off"
                    spellcheck="false";
                datalist id="zones" { @for zone in Zone::all_ids() { option value=(zone) {} } }
            }
            button type="submit" class="main" { "Show the next firings" }
        }
        @if expression.is_empty() { (examples()) } @else { (answer(&pages, expression, timezone)) }
    };
    let page = Page::new("Try a schedule", Section::Jobs, body);
    Ok(pages.page(Some(&session), page))
}

fn examples() -> Markup {
    html! {
        h2 { "For example" }
        dl class="pairs" {
            @for (expression, words) in EXAMPLES {
                dt { (words) }
                dd { a href=(link(expression, "UTC")) { (expression) } }
            }
        }
        p class="soft" {
            "One of the two fields for days is " code { "?" } ": the other one says which days."
        }
    }
}

/// The page with an expression filled in.
pub(crate) fn link(expression: &str, timezone: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("expression", expression)
        .append_pair("timezone", timezone)
        .finish();
    format!("/schedule?{query}")
}

fn answer(pages: &Pages, expression: &str, timezone: &str) -> Markup {
    if let Err(error) = Cron::parse(expression) {
        return marked(expression, &error);
    }
    match pages.services().triggers.preview(expression, timezone) {
        Ok(firings) if firings.is_empty() => {
            html! { p class="problem" role="alert" { "It never fires from now on." } }
        }
        Ok(firings) => html! { h2 { "Next firings" } (table(&firings, timezone)) },
        Err(error) => html! { p class="problem" role="alert" { (error.message) } },
    }
}

/// The expression with the place where it goes wrong.
fn marked(expression: &str, error: &CronError) -> Markup {
    let at = error.position.saturating_sub(1);
    let mut chars = expression.chars();
    let before: String = chars.by_ref().take(at).collect();
    let wrong = chars.next();
    html! {
        div class="problem" role="alert" {
            pre class="marked" {
                (before)
                mark { @match wrong { Some(wrong) => (wrong), None => " " } }
                (chars.as_str())
            }
            p {
                @if let Some(field) = error.field { b { (field) } ": " }
                (error.reason) " (character " (error.position) ")"
            }
        }
    }
}

/// Each firing on the clocks of its zone and, by script, on the reader's.
pub(crate) fn table(firings: &[Preview], timezone: &str) -> Markup {
    html! {
        table class="cards firings" {
            thead { tr {
                th scope="col" { (timezone) }
                th scope="col" { span data-show="zone" { "UTC" } }
            } }
            tbody {
                @for firing in firings {
                    tr {
                        td class="name" { (wall_time(&firing.local)) }
                        td data-label="For you" { (exact_time(firing.at)) }
                    }
                }
            }
        }
    }
}

/// `Sun 28 Mar 2027, 03:00:00 +02:00` of `2027-03-28T03:00:00+02:00`.
fn wall_time(local: &str) -> Markup {
    let (time, offset) = local.split_at_checked(19).unwrap_or((local, ""));
    let words = match time.parse::<DateTime>() {
        Ok(time) => time.strftime("%a %-d %b %Y, %H:%M:%S").to_string(),
        Err(_) => time.to_owned(),
    };
    html! { (words) " " span class="soft" { (offset) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrong_character_is_marked() {
        let error = Cron::parse("0 0 25 * * ?").unwrap_err();
        let html = marked("0 0 25 * * ?", &error).into_string();
        assert!(html.contains("0 0 <mark>2</mark>5 * * ?"), "{html}");
        assert!(html.contains("<b>hours</b>"), "{html}");
    }

    #[test]
    fn wall_times_have_their_offset() {
        let html = wall_time("2027-03-28T03:00:00+02:00").into_string();
        let expected = "Sun 28 Mar 2027, 03:00:00 <span class=\"soft\">+02:00</span>";
        assert_eq!(html, expected);
    }
}
