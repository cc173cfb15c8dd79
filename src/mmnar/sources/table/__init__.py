"""A table of one's own, one row a sample, with a spec that says what its columns mean → events.

**Time axis.** The question of a row is asked at its ``prediction_time``; where there is none, every row stands at
1 January 2000. A value is known from its ``known_at`` column on, else from the prediction time. A value known later
than the question is behind the door and so missing; a value whose ``known_at`` is not told is dropped. Both are
counted.

**Types.** A column whose cells are all numbers is a number. A column with few distinct words is a category. Dates,
identifiers, free words and columns that tell an outcome are refused. The spec may state a type; nothing is stored
before :meth:`TablePlan.text` could be read.

**Categories** of fewer than ten patients are pooled into ``other``; of a stated category with more than
``categories`` words the most frequent stay. Which words there are is counted over all rows, labels unseen.

Memory grows with rows times the columns the spec names, as text; events are made 5,000 rows at a time.
"""

from mmnar.sources.table.events import outcome_code
from mmnar.sources.table.plan import TablePlan, plan_rows, plan_table

__all__ = ["TablePlan", "outcome_code", "plan_rows", "plan_table"]
