-- The best customers of each month.
select month, customer, cents / 100 as revenue, tier
from (
    select *, row_number() over (partition by month order by cents desc, customer) as place
    from ${tables}.monthly
)
where place <= cast(:best as int)
order by month, place;
