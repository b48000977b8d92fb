"""The supply chain: what stands beside a release (keys, attachments, imports, images).

The test suite compares the result with the tables that the rooms declare.
"""

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tables are added to this step until it has been released."""


def downgrade() -> None:
    raise NotImplementedError("the ledger is append-only: restore the backup taken before the upgrade")
