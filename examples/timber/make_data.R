# Writes data/trees.csv: R's own data set `trees` (31 felled black cherry trees) in metric units.
inches <- 0.0254
metric <- with(datasets::trees, data.frame(
  diameter = round(Girth * inches, 3),
  height = round(Height * 12 * inches, 2),
  volume = round(Volume * (12 * inches)^3, 4)
))
write.csv(metric, "data/trees.csv", row.names = FALSE, quote = FALSE)
