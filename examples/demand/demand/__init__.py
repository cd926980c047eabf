"""Day-ahead forecast of hourly electricity demand."""
