// JavaScript SDK v3: a buffer, a stream, lib-storage multipart, ranges, listing, bulk removal.
import { createReadStream, readFileSync } from "node:fs";
import {
  DeleteObjectsCommand, GetObjectCommand, HeadObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";

const [Bucket, large] = process.argv.slice(2);
const client = new S3Client({
  endpoint: process.env.ENDPOINT, region: "us-east-1", forcePathStyle: true, maxAttempts: 1,
});
const data = readFileSync(large);
const fetchAll = async (Key, Range) =>
  Buffer.from(await (await client.send(new GetObjectCommand({ Bucket, Key, Range }))).Body.transformToByteArray());
const expect = (truth, what) => { if (!truth) throw new Error(what); };

await client.send(new PutObjectCommand({ Bucket, Key: "dir/buffer", Body: data, Metadata: { who: "me" } }));
await client.send(new PutObjectCommand({
  Bucket, Key: "dir/stream", Body: createReadStream(large), ContentLength: data.length,
}));
await new Upload({ client, params: { Bucket, Key: "dir/parts", Body: createReadStream(large) } }).done();
for (const name of ["buffer", "stream", "parts"]) {
  expect((await fetchAll(`dir/${name}`)).equals(data), `dir/${name} differs`);
}
expect((await fetchAll("dir/parts", "bytes=100-299")).equals(data.subarray(100, 300)), "range differs");
const head = await client.send(new HeadObjectCommand({ Bucket, Key: "dir/buffer", ChecksumMode: "ENABLED" }));
expect(head.Metadata.who === "me" && head.ChecksumCRC32, "metadata or checksum is missing");
const stream = await client.send(new HeadObjectCommand({ Bucket, Key: "dir/stream" }));
expect(stream.ContentEncoding === undefined, "aws-chunked must not be stored");
const { Contents } = await client.send(new ListObjectsV2Command({ Bucket, Prefix: "dir/" }));
expect(Contents.length === 3, "three objects are listed");
const removed = await client.send(new DeleteObjectsCommand({
  Bucket, Delete: { Objects: Contents.map(({ Key }) => ({ Key })) },
}));
expect(removed.Deleted.length === 3, "three objects are removed");
console.log("round trip complete");
