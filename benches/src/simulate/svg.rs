//! The curves of a replay: hit ratio by capacity, one line a subject.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::subject::Side;
use super::{Replay, Row};

const SIZE: (u32, u32) = (960, 600);
/// Room at the right for the names.
const NAMES_WIDTH: i32 = 190;
const NAME_HEIGHT: i32 = 17;

/// An SVG document. Ours are solid, peers thin, the optimum is dashed; the names stand in the order in which
/// the lines end at the right.
///
/// # Errors
/// If there is nothing to draw.
pub fn draw(replay: &Replay) -> Result<String> {
    // The row of each subject in the largest cache that it was replayed in.
    let subjects = replay.subjects();
    let ends = subjects.iter().filter_map(|&subject| replay.rows.iter().rfind(|row| row.subject == subject));
    let last: Vec<&Row> = ends.collect();
    let capacities: Vec<f64> =
        replay.cells().filter_map(|rows| Some(rows.first()?.capacity as f64)).collect();
    let (Some(&least), Some(&most)) = (capacities.first(), capacities.last()) else {
        return Err(anyhow!("there is nothing to draw"));
    };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let (plot, names) = area.split_horizontally(SIZE.0 as i32 - NAMES_WIDTH);
        let title = format!("{}: {} requests, {} keys", replay.trace, replay.requests, replay.keys);
        let mut chart = ChartBuilder::on(&plot)
            .caption(title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(56)
            // A little wider than the curves, and not empty where there is one capacity.
            .build_cartesian_2d((least / 1.1..most * 1.1).log_scale(), 0.0..top(replay))
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc("capacity in entries")
            .y_desc("hit ratio in %")
            .x_label_formatter(&|entries| format!("{entries:.0}"))
            .y_label_formatter(&|percent| format!("{percent:.0}"))
            .x_labels(6)
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 16))
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(failed)?;
        let mut order: Vec<usize> = (0..last.len()).collect();
        order.sort_by(|&one, &other| last[other].hit_ratio.total_cmp(&last[one].hit_ratio));
        for (place, &at) in order.iter().enumerate() {
            let row = last[at];
            let style = style(row, &last);
            let curve = replay.cells().filter_map(|rows| {
                let row = rows.iter().find(|other| other.subject == row.subject)?;
                Some((row.capacity as f64, row.hit_ratio * 100.0))
            });
            let points: Vec<(f64, f64)> = curve.collect();
            chart
                .draw_series(points.iter().map(|&point| Circle::new(point, 2, style.filled())))
                .map_err(failed)?;
            match row.side {
                Side::Optimum => {
                    chart.draw_series(DashedLineSeries::new(points, 6, 4, style)).map(drop).map_err(failed)?
                }
                _ => chart.draw_series(LineSeries::new(points, style)).map(drop).map_err(failed)?,
            }
            let y = 48 + place as i32 * NAME_HEIGHT;
            names.draw(&PathElement::new(vec![(4, y), (30, y)], style)).map_err(failed)?;
            let text =
                TextStyle::from(("sans-serif", 13).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
            let name = format!("{}  {:.1}", row.subject, row.hit_ratio * 100.0);
            names.draw(&Text::new(name, (38, y), text)).map_err(failed)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn failed(error: impl std::error::Error) -> anyhow::Error {
    anyhow!("the curves cannot be drawn: {error}")
}

/// The upper end of the axis: a little above the highest point, in tens.
fn top(replay: &Replay) -> f64 {
    let highest = replay.rows.iter().map(|row| row.hit_ratio).fold(0.0, f64::max);
    ((highest * 10.0).floor() * 10.0 + 10.0).min(100.0)
}

/// Hues far apart within each side.
fn style(row: &Row, all: &[&Row]) -> ShapeStyle {
    let side = || all.iter().filter(|other| other.side == row.side);
    let place = side().position(|other| other.subject == row.subject).unwrap_or(0);
    let hue = place as f64 / side().count().max(1) as f64;
    match row.side {
        Side::Optimum => BLACK.stroke_width(2),
        Side::Fixed => HSLColor(hue, 0.85, 0.38).stroke_width(2),
        Side::Auto => RED.stroke_width(4),
        Side::Peer => HSLColor(hue, 0.6, 0.6).stroke_width(1),
    }
}
